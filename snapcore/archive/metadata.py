"""Owners, modes, xattrs and times: what is allowed, and setting it in the one right order.

Data, then owner, mode, xattrs, times: chown(2) clears setuid bits and file capabilities, a write
clears capabilities, and everything changes times.

Xattrs of images are an allow-list: `user.*` without `user.overlay.*` on files and directories,
`security.capability` on files, POSIX ACLs on all but symlinks. All else is host policy or
control data of a filesystem (`trusted.overlay.*`); it is left out and counted. A filesystem that
lacks an allowed one gives Unimplemented, so that no backend quietly differs from another.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import Final, TypeAlias

from snapcore.archive.failures import shown
from snapcore.archive.skipped import Skipped
from snapcore.archive.types import ApplyPolicy, Entry, EntryType
from snapcore.errors import RefusedInput

Xattrs: TypeAlias = Sequence[tuple[bytes, bytes]]

ACL_ACCESS: Final = b"system.posix_acl_access"
ACL_DEFAULT: Final = b"system.posix_acl_default"
_CAPABILITY: Final = b"security.capability"
_USER: Final = b"user."
_OVERLAY: Final = b"user.overlay."
_WITH_USER: Final = (EntryType.FILE, EntryType.DIRECTORY)
# xattr(7): the kernel's limits; a filesystem may have smaller ones and says so by itself.
_MAX_NAME: Final = 255
_MAX_VALUE: Final = 65536
_ACL_VERSION: Final = b"\2\0\0\0"
_ACL_ENTRY: Final = 8
# linux/capability.h: VFS_CAP_REVISION_2 and _3 with their sizes.
_CAPABILITY_SIZES: Final = {2: 20, 3: 24}
_NONE: Final = (errno.ENODATA, errno.ENOTSUP)

_NANO: Final = 1_000_000_000
# The range of ext4 with 256-byte inodes. Kernels clamp silently to what each filesystem can
# hold; clamping here gives every backend the same time.
_MIN_TIME: Final = -(2**31) * _NANO
_MAX_TIME: Final = 0x3_7FFF_FFFF * _NANO


def clamp_time(mtime: int) -> int:
    """Return nanoseconds since the epoch inside what common filesystems can hold.

    The range is that of ext4 (1901 … 2446); at its ends the kernel drops the fraction too.
    """
    if mtime >= _MAX_TIME:
        return _MAX_TIME
    return mtime if mtime >= _MIN_TIME + _NANO else _MIN_TIME


def is_copied(name: bytes) -> bool:
    """Tell whether an xattr of a lower layer goes along when its file is copied up."""
    if name.startswith(_USER):
        return not name.startswith(_OVERLAY)
    return name in (_CAPABILITY, ACL_ACCESS, ACL_DEFAULT)


def read_xattrs(place: int | bytes, *, follow: bool = True) -> Xattrs:
    """Return the allowed xattrs of an open file, or of a path.

    Raises:
        OSError: as listxattr(2), but a filesystem without xattrs has none.
    """
    try:
        names = os.listxattr(place, follow_symlinks=follow)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()
        raise
    raw = [os.fsencode(name) for name in names]
    return [
        (name, os.getxattr(place, name, follow_symlinks=follow)) for name in raw if is_copied(name)
    ]


def has_default_acl(directory: int) -> bool:
    """Tell whether what is made in an open directory inherits an ACL (acl(5))."""
    try:
        os.getxattr(directory, ACL_DEFAULT)
    except OSError as error:
        if error.errno in _NONE:
            return False
        raise
    return True


def node_place(directory: int, name: bytes) -> bytes:
    """Return a path of a name in an open directory, for the calls that know no directory."""
    return b"/proc/self/fd/%d/%s" % (directory, name)


class AttributeWriter:
    """Gives nodes the attributes of entries, under a policy."""

    def __init__(self, policy: ApplyPolicy, skipped: Skipped) -> None:
        """Count in `skipped` what the policy leaves out."""
        self._squash = policy.ids == "squash"
        self._skipped = skipped
        self.own_ids: Final = (os.geteuid(), os.getegid())

    def owner(self, uid: int, gid: int) -> tuple[int, int]:
        """Return the owner that the policy gives to a node of `uid`:`gid`."""
        if not self._squash or (uid, gid) == self.own_ids:
            return uid, gid
        self._skipped.add("owner")
        return self.own_ids

    def file(self, descriptor: int, entry: Entry, *, plain: bool) -> None:
        """Set everything on a file just created with mode 0600 and written.

        Args:
            descriptor: the open file.
            entry: what it shall be.
            plain: its directory has neither a setgid bit nor a default ACL to inherit.

        Raises:
            OSError: as fchown(2), fchmod(2), fsetxattr(2), futimens(2).
            RefusedInput: an xattr is malformed.
        """
        owner = (entry.uid, entry.gid)
        if owner != self.own_ids:
            owner = self.owner(*owner)
        if not plain:
            self.replace_xattrs(descriptor, ())
        if owner != self.own_ids or not plain:
            os.fchown(descriptor, *owner)
        os.fchmod(descriptor, entry.mode)
        if entry.xattrs:
            self._write(descriptor, self.select(entry))
        mtime = clamp_time(entry.mtime)
        os.utime(descriptor, ns=(mtime, mtime))

    def directory(self, descriptor: int, entry: Entry) -> None:
        """Replace owner, mode and allowed xattrs of an open directory; its owner keeps access.

        Raises:
            OSError: as fchown(2), fchmod(2), fsetxattr(2).
            RefusedInput: an xattr is malformed.
        """
        os.fchown(descriptor, *self.owner(entry.uid, entry.gid))
        os.fchmod(descriptor, entry.mode | stat.S_IRWXU)
        self.replace_xattrs(descriptor, self.select(entry) if entry.xattrs else ())

    def node(self, directory: int, name: bytes, entry: Entry, *, plain: bool) -> None:
        """Set everything on a device or FIFO just made with mode 0600.

        Raises:
            OSError: as fchownat(2), fchmodat(2), lsetxattr(2), utimensat(2).
            RefusedInput: an xattr is malformed.
        """
        place = node_place(directory, name)
        if not plain:
            self.replace_xattrs(place, ())
        uid, gid = self.owner(entry.uid, entry.gid)
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
        change_mode(directory, name, entry.mode)
        if entry.xattrs:
            self._write(place, self.select(entry))
        self._times(directory, name, entry)

    def symlink(self, directory: int, name: bytes, entry: Entry) -> None:
        """Set owner and times of a symlink just made; it has no mode and no xattrs of its own.

        Raises:
            OSError: as fchownat(2), utimensat(2).
        """
        uid, gid = self.owner(entry.uid, entry.gid)
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
        if entry.xattrs:
            self.select(entry)
        self._times(directory, name, entry)

    def select(self, entry: Entry) -> Xattrs:
        """Return the xattrs of an entry that are set; count the others.

        Raises:
            RefusedInput: an allowed one is malformed or too large.
        """
        chosen = []
        for name, value in entry.xattrs:
            if not self._is_allowed(name, entry.type):
                self._skipped.add(f"xattr:{name.decode('utf-8', 'backslashreplace')}")
                continue
            _check_xattr(entry, name, value)
            chosen.append((name, value))
        return chosen

    def replace_xattrs(self, place: int | bytes, wanted: Xattrs) -> None:
        """Give a node exactly these allowed xattrs; other ones it has are left alone.

        Raises:
            OSError: as removexattr(2), setxattr(2).
        """
        names = {name for name, _ in wanted}
        for name, _ in (
            read_xattrs(place, follow=False) if isinstance(place, bytes) else (read_xattrs(place))
        ):
            if name not in names:
                os.removexattr(place, name, follow_symlinks=isinstance(place, int))
        self._write(place, wanted)

    @staticmethod
    def _write(place: int | bytes, wanted: Xattrs) -> None:
        for name, value in wanted:
            os.setxattr(place, name, value, follow_symlinks=isinstance(place, int))

    def _is_allowed(self, name: bytes, kind: EntryType) -> bool:
        if name.startswith(_USER):
            return kind in _WITH_USER and not name.startswith(_OVERLAY)
        if name == _CAPABILITY:
            return kind is EntryType.FILE and not self._squash
        if name == ACL_DEFAULT:
            return kind is EntryType.DIRECTORY
        return name == ACL_ACCESS and kind is not EntryType.SYMLINK

    @staticmethod
    def _times(directory: int, name: bytes, entry: Entry) -> None:
        mtime = clamp_time(entry.mtime)
        os.utime(name, ns=(mtime, mtime), dir_fd=directory, follow_symlinks=False)


def change_mode(directory: int, name: bytes, mode: int) -> None:
    """Change the mode of a name that is not a symlink, and of nothing behind a symlink.

    Raises:
        OSError: as open(2) with O_NOFOLLOW and chmod(2).
    """
    # fchmodat(2) cannot leave symlinks alone before Linux 6.6, and nodes must not be opened.
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", mode)
    finally:
        os.close(descriptor)


def _check_xattr(entry: Entry, name: bytes, value: bytes) -> None:
    why = ""
    if name == _USER or b"\0" in name or len(name) > _MAX_NAME:
        why = "bad name"
    elif len(value) > _MAX_VALUE:
        why = f"{len(value)} bytes; at most {_MAX_VALUE} are possible"
    elif name in (ACL_ACCESS, ACL_DEFAULT):
        # linux/posix_acl_xattr.h; the kernel would call another version "not supported".
        if value[:4] != _ACL_VERSION or len(value) % _ACL_ENTRY != len(_ACL_VERSION):
            why = "no POSIX ACL of version 2"
    elif name == _CAPABILITY:
        # Four bytes, little-endian: the revision is the top one (capabilities(7)).
        revision = value[3] if len(value) > 3 else 0
        if _CAPABILITY_SIZES.get(revision) != len(value):
            why = f"{len(value)} bytes of revision {revision} are no file capability"
    if why:
        raise RefusedInput(f"layer entry {shown(entry.path)}: xattr {name[:100]!r}: {why}")
