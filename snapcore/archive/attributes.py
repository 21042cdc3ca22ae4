"""Owners, modes, xattrs and times of what a layer makes.

The order is data, owner, mode, xattrs, times: chown clears setuid and file capabilities, and a
write clears capabilities too (capabilities(7), chown(2)).
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable
from typing import Final

from snapcore.archive.types import ApplyPolicy, Entry, EntryType

CAPABILITY: Final = b"security.capability"
ACL_ACCESS: Final = b"system.posix_acl_access"
ACL_DEFAULT: Final = b"system.posix_acl_default"
_ACLS: Final = frozenset({ACL_ACCESS, ACL_DEFAULT})
_CAPABILITY_LENGTHS: Final = {0x02000000: 20, 0x03000000: 24}
# What ext4 with 256-byte inodes can hold; filesystems that hold less clamp by themselves.
_MIN_TIME: Final = -(1 << 31) * 1_000_000_000
_MAX_TIME: Final = ((1 << 34) - 1 - (1 << 31)) * 1_000_000_000

Xattrs = tuple[tuple[bytes, bytes], ...]


def is_allowed(name: bytes) -> bool:
    """Tell whether an image may set an xattr: `user.*` without overlayfs's, capabilities, ACLs."""
    if name.startswith(b"user."):
        return not name.startswith(b"user.overlay.")
    return name == CAPABILITY or name in _ACLS


def clamp_time(nanoseconds: int) -> int:
    """Return a time that every filesystem of ours takes, the same one on each."""
    return min(max(nanoseconds, _MIN_TIME), _MAX_TIME)


class Attributes:
    """Sets attributes under one policy and counts what it leaves out."""

    def __init__(self, policy: ApplyPolicy) -> None:
        self.skipped: Counter[str] = Counter()
        self._squash = policy.ids == "squash"

    def usable(self, entry: Entry) -> Xattrs:
        """Return the xattrs of an entry that are applied; the rest is counted.

        Raises:
            OSError: EINVAL for a malformed file capability.
        """
        if not entry.xattrs:
            return ()
        kept: dict[bytes, bytes] = {}
        for name, value in entry.xattrs:
            if not is_allowed(name) or not _fits(name, entry.type):
                self.skipped[f"xattr:{os.fsdecode(name)[:100]}"] += 1
                continue
            if name == CAPABILITY:
                _check_capability(value)
            kept[name] = value
        return tuple(kept.items())

    def own(self, descriptor: int, uid: int, gid: int) -> None:
        """Set the owner of an open file or directory."""
        if not self._squash:
            os.fchown(descriptor, uid, gid)

    def own_name(self, directory: int, name: bytes, uid: int, gid: int) -> None:
        """Set the owner of a symlink or special file."""
        if not self._squash:
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)

    def set_xattrs(self, place: int | bytes, xattrs: Iterable[tuple[bytes, bytes]]) -> None:
        """Set xattrs on a descriptor, or on a path without following it."""
        for name, value in xattrs:
            if isinstance(place, int):
                os.setxattr(place, name, value)
            else:
                os.setxattr(place, name, value, follow_symlinks=False)

    def replace_xattrs(self, descriptor: int, xattrs: Xattrs) -> None:
        """Make these the only allowed xattrs of an open directory."""
        wanted = {name for name, _ in xattrs}
        for name, _ in read_xattrs(descriptor):
            if name not in wanted:
                os.removexattr(descriptor, name)
        self.set_xattrs(descriptor, xattrs)


def read_xattrs(place: int | bytes) -> Xattrs:
    """Return the allowed xattrs of a descriptor, or of a path without following it."""
    follow = isinstance(place, int)
    try:
        names = os.listxattr(place, follow_symlinks=follow)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return ()
        raise
    return tuple(
        (name, os.getxattr(place, name, follow_symlinks=follow))
        for name in map(os.fsencode, names)
        if is_allowed(name)
    )


def name_path(directory: int, name: bytes) -> bytes:
    """Return a path for calls that take neither a directory descriptor nor AT_EMPTY_PATH."""
    return b"/proc/self/fd/%d/%s" % (directory, name)


def _fits(name: bytes, kind: EntryType) -> bool:
    """Say whether the kernel keeps such an xattr on such an inode (xattr(7))."""
    if name.startswith(b"user."):
        return kind in (EntryType.FILE, EntryType.DIRECTORY)
    if name == ACL_DEFAULT:
        return kind is EntryType.DIRECTORY
    if name == ACL_ACCESS:
        return kind is not EntryType.SYMLINK
    return kind is EntryType.FILE


def _check_capability(value: bytes) -> None:
    revision = int.from_bytes(value[:4], "little") & 0xFF000000
    if len(value) < 4 or _CAPABILITY_LENGTHS.get(revision) != len(value):
        raise OSError(errno.EINVAL, "malformed security.capability")


def is_whiteout(status: os.stat_result) -> bool:
    """Tell whether an inode of an upper directory is an overlay whiteout."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
