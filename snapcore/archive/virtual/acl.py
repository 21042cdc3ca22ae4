"""What the kernel makes of a POSIX ACL that is set: it is checked, and changes the mode.

Source: kernel, fs/posix_acl.c (posix_acl_valid, posix_acl_equiv_mode, posix_acl_update_mode,
__posix_acl_chmod_masq) and include/uapi/linux/posix_acl_xattr.h; acl(5).
"""

from __future__ import annotations

import stat
import struct
from typing import Final, NamedTuple

_HEADER: Final = struct.pack("<I", 2)
_ENTRY: Final = struct.Struct("<HHI")
_OWNER, _USER, _GROUP, _NAMED_GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NAMED: Final = (_USER, _NAMED_GROUP)
_NO_ID: Final = 0xFFFFFFFF
_ANY: Final = 7
# The order in which tags may stand: what may come after what.
_NEXT: Final = {
    0: (_OWNER,),
    _OWNER: (_USER, _GROUP),
    _USER: (_USER, _GROUP),
    _GROUP: (_NAMED_GROUP, _MASK, _OTHER),
    _NAMED_GROUP: (_NAMED_GROUP, _MASK),
    _MASK: (_OTHER,),
    _OTHER: (),
}
_SHIFTS: Final = {_OWNER: 6, _GROUP: 3, _OTHER: 0}


class _Entry(NamedTuple):
    tag: int
    access: int
    id: int


class Acl:
    """An ACL as the kernel would store it."""

    def __init__(self, value: bytes) -> None:
        """Parse the value of an xattr, whose version and length are right already.

        Raises:
            ValueError: the kernel would refuse it with EINVAL.
        """
        self._entries = [_Entry(*fields) for fields in _ENTRY.iter_unpack(value[len(_HEADER) :])]
        before = 0
        named = False
        for entry in self._entries:
            if entry.tag not in _NEXT[before] or entry.access > _ANY:
                raise ValueError("its entries are out of order, or grant what there is not")
            if entry.tag in _NAMED and entry.id == _NO_ID:
                raise ValueError("an entry for a user or group names none")
            named = named or entry.tag in _NAMED
            if entry.tag == _OTHER and named and before != _MASK:
                raise ValueError("it names users or groups and has no mask")
            before = entry.tag
        if self._entries and before != _OTHER:
            raise ValueError("its entries end too early")

    @property
    def value(self) -> bytes:
        """The value of the xattr when it is read back; empty if there is nothing to store."""
        if not self._entries:
            return b""
        return _HEADER + b"".join(
            _ENTRY.pack(tag, access, number if tag in _NAMED else _NO_ID)
            for tag, access, number in self._entries
        )

    @property
    def says_more(self) -> bool:
        """Whether it says more than a mode can."""
        return any(entry.tag not in _SHIFTS for entry in self._entries)

    def mode(self, mode: int) -> int:
        """Return the mode of a node with this mode once the ACL is set."""
        access = {entry.tag: entry.access for entry in self._entries}
        if not access:
            return mode
        group = access.get(_MASK, access[_GROUP])
        permissions = access[_OWNER] << 6 | group << 3 | access[_OTHER]
        return mode & ~(stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO) | permissions

    def change_mode(self, mode: int) -> None:
        """Change it as chmod(2) with this mode does."""
        masked = any(entry.tag == _MASK for entry in self._entries)
        shifts = {_OWNER: 6, _MASK if masked else _GROUP: 3, _OTHER: 0}
        self._entries = [
            entry._replace(access=mode >> shifts[entry.tag] & _ANY)
            if entry.tag in shifts
            else entry
            for entry in self._entries
        ]
