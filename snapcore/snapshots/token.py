"""The instance token: tells whether the system went down since something was written."""

from __future__ import annotations

import os

from snapcore.errors import from_os_error
from snapcore.linux import boot_id


def instance_token(root: str) -> str:
    """Return a text that stays the same until the next boot, or until `root` moves elsewhere.

    It joins the boot id (random(4)) with the device number and filesystem id (statfs(2)) of
    the root. A mount id would not do: it is reused after an unmount.

    Raises:
        NotFound: no such root.
        SnapcoreError: it cannot be read.
    """
    try:
        boot = boot_id()
        device = os.stat(root).st_dev
        filesystem = os.statvfs(root).f_fsid
    except OSError as error:
        raise from_os_error(error, f"snapshot root {root!r}") from error
    return f"{boot} {device:x} {filesystem:x}"
