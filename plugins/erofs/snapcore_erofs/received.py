"""A layer as the worker leaves it in its target: the tar, and the entries read on the way.

The target is the snapshot's upper directory, into which anything may be written through a mount
too. What a worker left is known by a number that the snapshot got when it was prepared, which
lies beside the target and is seen in no mount.

    .snapcore-layer/tar       the uncompressed layer
    .snapcore-layer/entries   the number, and then batches: length (32 bits, little endian),
                              and so many bytes of MessagePack
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, Final, TypeAlias

import msgspec

from snapcore.archive import BlockReader, Entry, EntryType, Limits, TarReader
from snapcore.errors import DataLoss, FailedPrecondition, RefusedInput, from_os_error
from snapcore.snapshots import ApplyResult, LayerLimits

NUMBER: Final = "number"
"""Name of the file with the snapshot's number, beside its target."""
_DIRECTORY: Final = ".snapcore-layer"
_TAR: Final = "tar"
_ENTRIES: Final = "entries"
_NUMBER_BYTES: Final = 16
_LENGTH: Final = struct.Struct("<I")
_BATCH: Final = 2000
_BLOCK: Final = 1 << 20
_ALIGNMENT: Final = 512
_NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
Located: TypeAlias = tuple[Entry, int]
"""An entry of a tar, and where its bytes begin."""


def mark(directory: str) -> None:
    """Give a new snapshot its number.

    Args:
        directory: of the snapshot; its target will be in it.

    Raises:
        OSError: it cannot be written.
    """
    file = os.open(os.path.join(directory, NUMBER), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, secrets.token_bytes(_NUMBER_BYTES))
    finally:
        os.close(file)


def receive(target: str, stream: int, limits: LayerLimits) -> ApplyResult:
    """Keep an uncompressed layer in a target; see `snapcore_apply`.

    Raises:
        RefusedInput: it is no tar that we read, or past a limit.
        SnapcoreError: it cannot be written.
    """
    try:
        with ExitStack() as stack:
            place = os.path.join(target, _DIRECTORY)
            os.mkdir(place, 0o700)
            tar = stack.enter_context(_created(os.path.join(place, _TAR)))
            entries = stack.enter_context(_created(os.path.join(place, _ENTRIES)))
            with open(os.path.join(target, "..", NUMBER), "rb") as number:
                entries.write(number.read())
            return _receive(stream, tar.fileno(), entries, limits)
    except OSError as error:
        raise from_os_error(error, "layer") from error


def _created(path: str) -> BinaryIO:
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))


def _receive(stream: int, tar: int, entries: BinaryIO, limits: LayerLimits) -> ApplyResult:
    blocks = BlockReader(lambda: _copied(stream, tar))
    budget = Limits(size=limits.size, entries=limits.entries, depth=limits.depth, pax=limits.pax)
    reader = TarReader(blocks, budget)
    batch: list[tuple[object, ...]] = []
    count = 0
    for entry in reader:
        count += 1
        if entry.size and blocks.position % _ALIGNMENT:
            raise RefusedInput(f"layer entry {entry.path!r}: its bytes are at {blocks.position}")
        batch.append((*msgspec.structs.astuple(entry), blocks.position))
        if len(batch) == _BATCH:
            _write(entries, batch)
            batch.clear()
    if batch:
        _write(entries, batch)
    # The kernel reads whole blocks, and not all writers of tars end with one.
    size = os.fstat(tar).st_size
    os.ftruncate(tar, -(-size // _ALIGNMENT) * _ALIGNMENT)
    return ApplyResult(count, blocks.position)


def _copied(stream: int, tar: int) -> bytes:
    """Return the next bytes of a stream, which are kept in the file."""
    block = os.read(stream, _BLOCK)
    view = memoryview(block)
    while view:
        view = view[os.write(tar, view) :]
    return block


def _write(entries: BinaryIO, batch: list[tuple[object, ...]]) -> None:
    data = msgspec.msgpack.encode(batch)
    entries.write(_LENGTH.pack(len(data)) + data)


_Row: TypeAlias = tuple[
    tuple[bytes, ...], str, int, int, int, int, int, bytes, tuple[bytes, ...], int, int,
    tuple[tuple[bytes, bytes], ...], int, int,
]  # fmt: skip


class Received:
    """What a worker left, held open: nobody can put something else in its place.

    Attributes:
        tar: descriptor of the layer's tar.
    """

    __slots__ = ("_entries", "tar")

    def __init__(self, tar: int, entries: int) -> None:
        self.tar: Final = tar
        self._entries: Final = entries

    def __iter__(self) -> Iterator[Located]:
        """Yield the entries in their order, as often as wanted.

        Raises:
            DataLoss: what was kept is damaged.
            OSError: it cannot be read.
        """
        decoder = msgspec.msgpack.Decoder(list[_Row])
        with open(self._entries, "rb", closefd=False) as file:
            file.seek(_NUMBER_BYTES)
            while head := file.read(_LENGTH.size):
                try:
                    (length,) = _LENGTH.unpack(head)
                    rows = decoder.decode(file.read(length))
                except (struct.error, msgspec.MsgspecError) as error:
                    raise DataLoss("the entries that were kept of a layer are damaged") from error
                for row in rows:
                    yield _entry(row)


@contextmanager
def received(directory: str, target: str) -> Iterator[Received | None]:
    """Open what a worker left in a target, for the duration of a `with` block.

    Args:
        directory: of the snapshot.
        target: in it; whoever wrote there through a mount may have put anything into it.

    Yields:
        What a worker left; None if there is nothing of that kind.

    Raises:
        FailedPrecondition: something else was written beside it.
        OSError: it cannot be read.
    """
    with ExitStack() as stack:

        def opened(name: str, flags: int, place: int) -> int:
            file = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            stack.callback(os.close, file)
            return file

        upper = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        stack.callback(os.close, upper)
        found = None
        try:
            place = opened(_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY, upper)
            # Not to wait for the other end of a FIFO.
            files = [opened(name, os.O_RDONLY | os.O_NONBLOCK, place) for name in (_TAR, _ENTRIES)]
            if all(stat.S_ISREG(os.fstat(file).st_mode) for file in files) and _is_own(
                directory, files[1]
            ):
                found = Received(*files)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
        if found is not None and os.listdir(upper) != [_DIRECTORY]:
            raise FailedPrecondition(
                f"{target!r} holds a layer and something else that was written there; remove the"
                " snapshot and unpack the layer again"
            )
        yield found


def _is_own(directory: str, entries: int) -> bool:
    """Tell whether entries begin with the number of the snapshot, which no mount shows."""
    with open(os.path.join(directory, NUMBER), "rb") as file:
        own = file.read()
    return len(own) == _NUMBER_BYTES and os.pread(entries, _NUMBER_BYTES, 0) == own


def _entry(row: _Row) -> Located:
    path, kind, *rest, start = row
    return Entry(path, EntryType(kind), *rest), start  # type: ignore[arg-type]
