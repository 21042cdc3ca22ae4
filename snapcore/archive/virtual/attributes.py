"""The attributes that a node has after an entry's were set on it, as the kernel leaves them."""

from __future__ import annotations

import stat
from typing import Final

from snapcore.archive.failures import shown
from snapcore.archive.metadata import (
    ACL_ACCESS,
    ACL_DEFAULT,
    AttributeWriter,
    Xattrs,
    clamp_time,
)
from snapcore.archive.types import Entry
from snapcore.archive.virtual.acl import Acl
from snapcore.archive.virtual.types import Attributes
from snapcore.errors import RefusedInput

_ACLS: Final = (ACL_ACCESS, ACL_DEFAULT)


def directory_attributes(entry: Entry, writer: AttributeWriter) -> Attributes:
    """Return the attributes of a directory.

    Raises:
        RefusedInput: an xattr is malformed.
    """
    mode, xattrs = (entry.mode, ()) if not entry.xattrs else _directory_xattrs(entry, writer)
    return Attributes(mode, *writer.owner(entry.uid, entry.gid), clamp_time(entry.mtime), xattrs)


def with_xattrs(entry: Entry, mode: int, writer: AttributeWriter) -> tuple[int, Xattrs]:
    """Return the mode and the xattrs of a node that has `mode` before its xattrs are set.

    Raises:
        RefusedInput: an xattr is malformed.
    """
    mode, xattrs, _ = _set(entry, mode, writer)
    return mode, tuple(xattrs.items())


def _directory_xattrs(entry: Entry, writer: AttributeWriter) -> tuple[int, Xattrs]:
    mode, xattrs, acl = _set(entry, entry.mode | stat.S_IRWXU, writer)
    if entry.mode & stat.S_IRWXU != stat.S_IRWXU:
        # Its owner had access until the end; then the mode is set, which changes the ACL.
        mode = entry.mode
        if acl is not None and ACL_ACCESS in xattrs:
            acl.change_mode(mode)
            xattrs[ACL_ACCESS] = acl.value
    return mode, tuple(xattrs.items())


def _set(
    entry: Entry, mode: int, writer: AttributeWriter
) -> tuple[int, dict[bytes, bytes], Acl | None]:
    xattrs = dict(writer.select(entry))
    access: Acl | None = None
    for name in _ACLS:
        if name not in xattrs:
            continue
        try:
            acl = Acl(xattrs[name])
        except ValueError as error:
            what = f"layer entry {shown(entry.path)}: xattr {name!r}"
            raise RefusedInput(f"{what}: {error}") from error
        xattrs[name] = acl.value
        if name == ACL_ACCESS:
            access, mode = acl, acl.mode(mode)
        if not acl.value or (name == ACL_ACCESS and not acl.says_more):
            del xattrs[name]
    return mode, xattrs, access
