"""Entries that take a privilege which this process lacks: which, and what to do about it."""

from __future__ import annotations

import errno
import os
from typing import Final

from snapcore.archive.failures import layer_error, shown
from snapcore.archive.types import Entry, EntryType
from snapcore.errors import PermissionDenied, SnapcoreError
from snapcore.linux import Cap, effective_capabilities, has_owner

_DEVICES: Final = (EntryType.CHARACTER, EntryType.BLOCK)
_FILE_CAPABILITIES: Final = b"security.capability"
_LEAVE_OUT: Final = "or set unpack.unprivileged to 'map', which leaves it out"
_AS_ROOT: Final = "run as root, or as root of a user namespace"


def entry_error(error: OSError, entry: Entry) -> SnapcoreError:
    """Return what a failed system call on an entry means: `layer_error`, or which privilege.

    What the kernel calls an invalid argument is an owner without an id in this user namespace
    (chown(2)); a device is refused in all but the initial one (mknod(2), user_namespaces(7)).
    """
    lacking = _lacking(error, entry)
    if lacking:
        return PermissionDenied(f"layer entry {shown(entry.path)}: {lacking}")
    return layer_error(error, entry.path)


def _lacking(error: OSError, entry: Entry) -> str:
    if error.errno == errno.EINVAL and not has_owner(entry.uid, entry.gid):
        return (
            f"its owner {entry.uid}:{entry.gid} has no ids in this user namespace; map more ids"
            f" (subuid(5)), run as root, {_LEAVE_OUT}"
        )
    if error.errno != errno.EPERM:
        return ""
    if entry.type in _DEVICES:
        return f"a device needs root outside of user namespaces; run so, {_LEAVE_OUT}"
    capabilities = effective_capabilities()
    foreign = (entry.uid, entry.gid) != (os.geteuid(), os.getegid())
    if foreign and Cap.CHOWN not in capabilities:
        return f"its owner {entry.uid}:{entry.gid} needs root; {_AS_ROOT}, {_LEAVE_OUT}"
    if _FILE_CAPABILITIES in dict(entry.xattrs) and Cap.SETFCAP not in capabilities:
        return f"its file capabilities need root; {_AS_ROOT}, {_LEAVE_OUT}"
    return ""
