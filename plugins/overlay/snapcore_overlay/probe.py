"""What the overlay snapshotter says of itself at a state root."""

from __future__ import annotations

import os

from snapcore.errors import FailedPrecondition
from snapcore.linux import filesystem_type
from snapcore.snapshots import (
    Probe,
    existing_ancestor,
    find_overlay_form,
    overlay_capabilities,
)


def probe(root: str, mount_options: tuple[str, ...] = (), selinux_context: str = "") -> Probe:
    """Tell whether overlay works at `root`, and what it can do there; see `find_overlay_form`.

    Raises:
        InvalidArgument: an option is not the operator's to set, or the label is none.
    """
    details = {
        "filesystem": filesystem_type(existing_ancestor(root)),
        "kernel": os.uname().release,
    }
    try:
        form = find_overlay_form(root, mount_options, selinux_context)
    except FailedPrecondition as error:
        return Probe(usable=False, reason=str(error), details=details)
    return Probe(
        usable=True,
        capabilities=overlay_capabilities(form),
        details={**details, "d_type": "yes", "options": ",".join(form.options)},
        findings=form,
    )
