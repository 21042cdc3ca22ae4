"""What makes one tree of another, as a layer (OCI image-spec, layer.md, "Change Types").

Applying the layer to the first tree gives the second: all that the canonical tree digest covers
but sockets, which no layer can hold. Nothing is told by times alone: files of equal size are
compared byte by byte.

The entries are sorted, component by component, whiteouts by their own names. An entry's parents
come along, changed or not, so that who applies it need not know them, nor touch their times. What
is gone is deleted name by name, as the specification advises; opaque marks are written where an
overlay's upper directory has them, which is not compared with its lower ones. Memory grows with the
depth, the widest directory and the number of names of hard-linked files, not with the files.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from snapcore.archive.compression import Compression
from snapcore.archive.descent import Descent
from snapcore.archive.failures import Path, shown
from snapcore.archive.linkgroups import Inode, LinkGroups, inode
from snapcore.archive.metadata import node_place, read_xattrs
from snapcore.archive.pack import LayerPacker
from snapcore.archive.pairs import Pair, side_by_side
from snapcore.archive.skipped import Skipped
from snapcore.archive.types import Entry, EntryType
from snapcore.archive.uppermarks import UpperMarks
from snapcore.archive.writer import TarWriter
from snapcore.errors import FailedPrecondition, SnapcoreError, from_os_error
from snapcore.oci import Descriptor, Digest
from snapcore.oci.whiteout import OPAQUE_MARKER, WHITEOUT_PREFIX, WhiteoutStyle

_BLOCK: Final = 1 << 20
_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS: Final = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHARACTER,
    stat.S_IFBLK: EntryType.BLOCK,
    stat.S_IFIFO: EntryType.FIFO,
}


@dataclass(frozen=True, slots=True)
class DiffOptions:
    """How a layer is written.

    Attributes:
        compression: of the blob.
        latest: nanoseconds since the epoch; later times become this one (SOURCE_DATE_EPOCH).
        checkpoint: called again and again; what it raises ends the work.
    """

    compression: Compression = Compression.GZIP
    latest: int | None = None
    checkpoint: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class WrittenLayer:
    """A layer that was written.

    Attributes:
        descriptor: of the blob.
        diff_id: digest of the tar.
        size: bytes of the tar.
        entries: how many it has.
        skipped: what was left out, by reason.
    """

    descriptor: Descriptor
    diff_id: Digest
    size: int
    entries: int
    skipped: Mapping[str, int]


def diff_trees(
    before: str | bytes | None,
    after: str | bytes,
    write: Callable[[bytes], object],
    options: DiffOptions | None = None,
) -> WrittenLayer:
    """Write the layer that makes one tree of another.

    Args:
        before: a directory; None for nothing at all.
        after: a directory, which nobody should change meanwhile.
        write: takes all of the bytes that it is given.
        options: how.

    Raises:
        NotFound: one of them is not there.
        RefusedInput: something in it can be in no layer; it is named.
        FailedPrecondition: something changed while it was read.
        SnapcoreError: something cannot be read, or what `write` raises.
    """
    return _diff(before, after, UpperMarks(WhiteoutStyle.APPLY), write, options or DiffOptions())


def diff_upper(
    upper: str | bytes,
    style: WhiteoutStyle,
    write: Callable[[bytes], object],
    options: DiffOptions | None = None,
    *,
    lowers: Sequence[str] | None = None,
) -> WrittenLayer:
    """Write the layer that an overlay's upper directory is, without comparing it.

    Args:
        upper: the directory.
        style: how the overlay marks deletions.
        write: takes all of the bytes that it is given.
        options: how.
        lowers: the directories below, the nearest first, to leave out opaque marks where there is
            no directory to hide; None if they are not known.

    Raises:
        Unimplemented: parts of files or directories lie in the layers below.
        SnapcoreError: as `diff_trees`.
    """
    return _diff(None, upper, UpperMarks(style, lowers), write, options or DiffOptions())


def _diff(
    before: str | bytes | None,
    after: str | bytes,
    marks: UpperMarks,
    write: Callable[[bytes], object],
    options: DiffOptions,
) -> WrittenLayer:
    packer = LayerPacker(write, options.compression)
    groups = LinkGroups()
    with ExitStack() as stack, _reading(after):
        for pair in side_by_side(*_opened(before, after, stack), marks.is_deletion):
            groups.note(pair)
            options.checkpoint()
        return _Diff(*_opened(before, after, stack), marks, groups, packer, options).run()


def _opened(
    before: str | bytes | None, after: str | bytes, stack: ExitStack
) -> tuple[Descent | None, Descent]:
    return (None if before is None else _open(before, stack)), _open(after, stack)


@contextmanager
def _reading(root: str | bytes) -> Iterator[None]:
    """Say of what the tree did not allow which one it was."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _read_error(error, f"a directory of {root!r}") from error


def _open(root: str | bytes, stack: ExitStack) -> Descent:
    try:
        tree = Descent(root)
    except OSError as error:
        raise from_os_error(error, f"directory {root!r}") from error
    stack.callback(tree.close)
    return tree


class _Diff:
    """One walk that writes what has changed."""

    def __init__(
        self,
        before: Descent | None,
        after: Descent,
        marks: UpperMarks,
        groups: LinkGroups,
        packer: LayerPacker,
        options: DiffOptions,
    ) -> None:
        self._before: Final = before
        self._after: Final = after
        self._marks: Final = marks
        self._groups: Final = groups
        self._packer: Final = packer
        self._options: Final = options
        self._tar: Final = TarWriter(packer.write)
        self._skipped: Final = Skipped()
        # The directories on the way down that are not written yet, None for those that are.
        self._parents: Final[list[Entry | None]] = []
        self._equal: Final[dict[Inode, bool]] = {}

    def run(self) -> WrittenLayer:
        for pair in side_by_side(self._before, self._after, self._marks.is_deletion):
            self._options.checkpoint()
            del self._parents[len(pair.path) :]
            try:
                self._take(pair)
            except BrokenPipeError:
                raise
            except OSError as error:
                raise _read_error(error, shown(pair.path)) from error
        self._tar.end()
        descriptor, diff_id = self._packer.finish()
        return WrittenLayer(
            descriptor, diff_id, self._packer.size, self._tar.entries, self._skipped.counts()
        )

    def _take(self, pair: Pair) -> None:
        if pair.after is None:
            self._delete(pair.path)
        elif stat.S_ISDIR(pair.after.st_mode):
            self._directory(pair, pair.after)
        elif stat.S_ISSOCK(pair.after.st_mode):
            self._skipped.add("socket")
            if pair.before or not self._before:
                # What it stands in front of is not there any more, though it cannot be written.
                self._delete(pair.path)
        elif not self._is_same(pair, pair.after):
            self._node(pair, pair.after)

    def _delete(self, path: Path) -> None:
        self._write(_marker((*path[:-1], WHITEOUT_PREFIX + path[-1])))

    def _directory(self, pair: Pair, status: os.stat_result) -> None:
        entry = self._entry(pair.path, status)
        same = pair.before is not None and self._has_same_attributes(pair, pair.before, status)
        if not same:
            self._write(entry)
        self._parents.append(entry if same else None)
        if self._marks.is_opaque(_place(self._after, pair.path), pair.path):
            self._write(_marker((*pair.path, OPAQUE_MARKER)))

    def _node(self, pair: Pair, status: os.stat_result) -> None:
        self._marks.check_whole(_place(self._after, pair.path), pair.path)
        entry = self._entry(pair.path, status)
        first = self._groups.first(pair)
        if first != pair.path:
            self._write(_linked(entry, first))
        elif entry.type is EntryType.FILE:
            self._write(entry, self._payload(self._after, pair.path, status))
        else:
            self._write(entry)

    def _write(self, entry: Entry, payload: Iterable[bytes] = ()) -> None:
        for depth, parent in enumerate(self._parents):
            if parent is not None:
                self._tar.add(parent)
                self._parents[depth] = None
        self._tar.add(entry, payload)

    def _entry(self, path: Path, status: os.stat_result) -> Entry:
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        device = kind in (EntryType.CHARACTER, EntryType.BLOCK)
        mtime, latest = status.st_mtime_ns, self._options.latest
        return Entry(
            path,
            kind,
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            mtime if latest is None else min(mtime, latest),
            status.st_size if kind is EntryType.FILE else 0,
            _target(self._after, path) if kind is EntryType.SYMLINK else b"",
            (),
            os.major(status.st_rdev) if device else 0,
            os.minor(status.st_rdev) if device else 0,
            _xattrs(self._after, path),
            0,
        )

    def _is_same(self, pair: Pair, after: os.stat_result) -> bool:
        before = pair.before
        if before is None or not self._has_same_attributes(pair, before, after):
            return False
        if not self._groups.unchanged(pair):
            return False
        assert self._before is not None
        if stat.S_ISLNK(after.st_mode):
            return _target(self._before, pair.path) == _target(self._after, pair.path)
        if stat.S_ISREG(after.st_mode):
            return self._has_same_bytes(pair, before, after)
        return before.st_rdev == after.st_rdev

    def _has_same_attributes(
        self, pair: Pair, before: os.stat_result, after: os.stat_result
    ) -> bool:
        assert self._before is not None
        return _attributes(before) == _attributes(after) and (
            _xattrs(self._before, pair.path) == _xattrs(self._after, pair.path)
        )

    def _has_same_bytes(self, pair: Pair, before: os.stat_result, after: os.stat_result) -> bool:
        if before.st_size != after.st_size or not self._before:
            return False
        if not after.st_size or inode(before) == inode(after):
            return True
        known = self._equal.get(inode(after)) if after.st_nlink > 1 else None
        if known is None:
            left = self._payload(self._before, pair.path, before)
            right = self._payload(self._after, pair.path, after)
            known = all(one == other for one, other in zip(left, right, strict=True))
            left.close()
            right.close()
            if after.st_nlink > 1:
                self._equal[inode(after)] = known
        return known

    def _payload(
        self, tree: Descent, path: Path, status: os.stat_result
    ) -> Generator[bytes, None, None]:
        """Yield a file's bytes, exactly as many as its status says."""
        descriptor = os.open(path[-1], _OPEN_FILE, dir_fd=tree.descriptor)
        try:
            if inode(os.fstat(descriptor)) != inode(status):
                raise _changed(shown(path))
            left = status.st_size
            while left:
                block = _read(descriptor, min(left, _BLOCK))
                if not block:
                    raise _changed(shown(path))
                left -= len(block)
                yield block
                self._options.checkpoint()
            if os.read(descriptor, 1):
                raise _changed(shown(path))
        finally:
            os.close(descriptor)


def _attributes(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns


def _place(tree: Descent, path: Path) -> int | bytes:
    return node_place(tree.descriptor, path[-1]) if path else tree.descriptor


def _xattrs(tree: Descent, path: Path) -> tuple[tuple[bytes, bytes], ...]:
    place = _place(tree, path)
    return tuple(sorted(read_xattrs(place, follow=isinstance(place, int))))


def _target(tree: Descent, path: Path) -> bytes:
    return os.readlink(path[-1], dir_fd=tree.descriptor)


def _marker(path: Path) -> Entry:
    return Entry(path, EntryType.FILE, 0, 0, 0, 0, 0, b"", (), 0, 0, (), 0)


def _linked(entry: Entry, first: Path) -> Entry:
    """Return an entry as another name of one that was written before."""
    return Entry(
        entry.path,
        EntryType.HARDLINK,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.mtime,
        0,
        b"/".join(first),
        first,
        0,
        0,
        (),
        0,
    )


def _changed(what: str) -> FailedPrecondition:
    return FailedPrecondition(f"{what} changed while it was read; try again")


def _read_error(error: OSError, what: str) -> SnapcoreError:
    if error.errno in _GONE:
        return _changed(what)
    return from_os_error(error, f"reading {what}")


def _read(descriptor: int, size: int) -> bytes:
    """Return `size` bytes, fewer only at the end of the file."""
    block = os.read(descriptor, size)
    while len(block) < size and (more := os.read(descriptor, size - len(block))):
        block += more
    return block
