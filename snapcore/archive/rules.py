"""What an entry of a layer may be, whatever it was read from: a tar's headers or an index.

A layer shows one tree only if all who describe its entries make them by the same rules: names
and links are split and bounded here, ids, modes, times, sizes and device numbers have their
ranges here, and the budgets are counted here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from snapcore.archive.names import MAX_PATH, NameSplitter
from snapcore.archive.pax import MAX_RECORDS
from snapcore.archive.types import Entry, EntryType, Limits
from snapcore.errors import RefusedInput

DEVICES: Final = (EntryType.CHARACTER, EntryType.BLOCK)
"""The types that have device numbers."""
_LINKS: Final = (EntryType.HARDLINK, EntryType.SYMLINK)
_MAX_MODE: Final = 2**32
_MAX_ID: Final = 2**32 - 2
_MAX_MAJOR: Final = 4095
_MAX_MINOR: Final = 2**20 - 1
_MAX_TIME: Final = 2**63 * 1_000_000_000


class EntryRules:
    """Makes the entries of one layer, or refuses them.

    Attributes:
        entries: how many have been made.
    """

    def __init__(
        self, limits: Limits, refuse: Callable[[str], RefusedInput], *, absolute: bool = True
    ) -> None:
        """Start a layer.

        Args:
            limits: `entries`, `size`, `depth` and `pax` count.
            refuse: makes the error that names the place.
            absolute: take a leading `/` for nothing, as layers want it; else refuse it.
        """
        self.entries = 0
        self._absolute = absolute
        self._limits = limits
        self._refuse = refuse
        self._names = NameSplitter(limits.depth, refuse)
        self._links = NameSplitter(limits.depth, refuse)

    def make(
        self,
        name: bytes,
        kind: EntryType,
        mode: int,
        uid: int,
        gid: int,
        mtime: int,
        size: int,
        link: bytes,
        device: tuple[int, int],
        xattrs: tuple[tuple[bytes, bytes], ...],
        offset: int,
    ) -> Entry:
        """Return one entry; the arguments are as `Entry` has them, but in raw form.

        Args:
            name: as it was written.
            kind: what the entry makes.
            mode: file type bits are dropped.
            uid: owner.
            gid: group.
            mtime: nanoseconds since the epoch.
            size: bytes of payload.
            link: as it was written; looked at for links only.
            device: major and minor number; looked at for devices only.
            xattrs: as `check_xattrs` left them.
            offset: where the entry is.

        Raises:
            RefusedInput: something is out of its range, or past a budget.
        """
        if kind is EntryType.FILE and name.endswith(b"/"):
            raise self._refuse("a regular file whose name ends in '/'")
        path = self._path(name, self._names)
        if not path and kind is not EntryType.DIRECTORY:
            raise self._refuse(f"the root as a {kind.value}")
        self._check(kind, mode, uid, gid, mtime, size)
        target: bytes = b""
        link_path: tuple[bytes, ...] = ()
        major = minor = 0
        if kind in _LINKS:
            target, link_path = link, self._link_path(link, kind)
        elif kind in DEVICES:
            major, minor = self._device(kind, device)
        self.entries += 1
        if self.entries > self._limits.entries:
            raise self._refuse(f"more than {self._limits.entries} entries in one layer")
        return Entry(
            path,
            kind,
            mode & 0o7777,
            uid,
            gid,
            mtime,
            size,
            target,
            link_path,
            major,
            minor,
            xattrs,
            offset,
        )

    def check_xattrs(self, xattrs: tuple[tuple[bytes, bytes], ...]) -> None:
        """Check xattrs that do not come from PAX records, by what these can hold.

        Raises:
            RefusedInput: a malformed name, too many, or too large.
        """
        if len(xattrs) > MAX_RECORDS:
            raise self._refuse(f"more than {MAX_RECORDS} xattrs of one entry")
        if sum(len(name) + len(value) for name, value in xattrs) > self._limits.pax:
            raise self._refuse(f"xattrs of more than {self._limits.pax} bytes")
        for name, _ in xattrs:
            if not name or b"\0" in name or b"=" in name:
                raise self._refuse(f"an xattr has no valid name: {name[:100]!r}")

    def _check(self, kind: EntryType, mode: int, uid: int, gid: int, mtime: int, size: int) -> None:
        if not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):
            raise self._refuse(f"owner {uid}:{gid} is not in 0 … {_MAX_ID}")
        if size and (kind is not EntryType.FILE or not 0 < size <= self._limits.size):
            raise self._refuse(
                f"a {kind.value} with {size} bytes of data;"
                f" regular files may have up to {self._limits.size}, all else none"
            )
        if not 0 <= mode < _MAX_MODE:
            raise self._refuse(f"mode {mode} is out of range")
        if not -_MAX_TIME <= mtime < _MAX_TIME:
            raise self._refuse("the time does not fit 64 bits of seconds")

    def _device(self, kind: EntryType, device: tuple[int, int]) -> tuple[int, int]:
        major, minor = device
        if not (0 <= major <= _MAX_MAJOR and 0 <= minor <= _MAX_MINOR):
            raise self._refuse(f"device number {major}:{minor} is out of range")
        if kind is EntryType.CHARACTER and major == minor == 0:
            raise self._refuse("character device 0:0 is the kernel's whiteout")
        return device

    def _link_path(self, link: bytes, kind: EntryType) -> tuple[bytes, ...]:
        if not link:
            raise self._refuse(f"a {kind.value} to nothing")
        if kind is EntryType.SYMLINK:
            if len(link) > MAX_PATH:
                raise self._refuse(f"a symlink's target is longer than {MAX_PATH} bytes")
            if b"\0" in link:
                raise self._refuse("a symlink's target holds a NUL")
            return ()
        path = self._path(link, self._links)
        if not path:
            raise self._refuse("a hardlink to the root")
        return path

    def _path(self, name: bytes, splitter: NameSplitter) -> tuple[bytes, ...]:
        path = splitter.split(name)
        if b"\0" in name:
            raise self._refuse("a NUL in a name")
        if not self._absolute and name.startswith(b"/"):
            raise self._refuse("an absolute name")
        return path
