"""The upper directory of a snapshot: making it, and what its root carries."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from snapcore.mount import IdMapping
from snapcore.oci.whiteout import WhiteoutStyle

_ABSENT: Final = frozenset({errno.ENODATA, errno.EOPNOTSUPP})
_WORK_MODE: Final = 0o711
# Marks of overlayfs are of one layer, not of the tree; host policy labels come by themselves.
_NOT_TAKEN: Final = (
    "trusted.overlay.",
    "user.overlay.",
    "security.selinux",
    "security.ima",
    "security.evm",
    "security.SMACK64",
)


def make_work(path: str) -> None:
    """Make overlayfs's work directory, which must lie on the filesystem of the root.

    Raises:
        OSError: it cannot be made.
    """
    os.mkdir(path)
    os.chmod(path, _WORK_MODE)


def take_root_attributes(parent: str, path: str, mapping: IdMapping | None = None) -> None:
    """Give a new root the owner, mode, xattrs and times of its parent's.

    In a merged tree the uppermost root directory's attributes show, so that without this a
    child's root would differ from what its parent's layer says. Overlayfs maps the ids of
    lower directories only: where a mapping is asked for, the owner is mapped here.

    Raises:
        InvalidArgument: the mapping does not hold the owner.
        OSError: one of them cannot be given.
    """
    status = os.stat(parent)
    owner, group = status.st_uid, status.st_gid
    if mapping:
        owner, group = mapping.uids.outside(owner), mapping.gids.outside(group)
    os.chown(path, owner, group)
    os.chmod(path, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(parent):
        if not name.startswith(_NOT_TAKEN):
            os.setxattr(path, name, os.getxattr(parent, name))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def is_opaque(path: str, style: WhiteoutStyle) -> bool:
    """Tell whether a layer's root is marked to hide everything below it.

    Raises:
        OSError: the directory cannot be read.
    """
    try:
        return os.getxattr(path, style.opaque_xattr) == b"y"
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise
