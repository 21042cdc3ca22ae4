"""The entries of a layer in few bytes: columns, and names without the directories of the last one.

Entries of a tar lie one behind the other, and so do those of a table of contents in its stream:
where one is expected follows from those before it, and only the difference is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from snapcore.archive import Entry, EntryRules, EntryType, Limits
from snapcore.errors import RefusedInput
from snapcore_fuse.formats.envelope import from_bytes, numbers, to_bytes
from snapcore_fuse.formats.types import IndexedEntry

_KINDS: Final = (
    EntryType.FILE,
    EntryType.HARDLINK,
    EntryType.SYMLINK,
    EntryType.CHARACTER,
    EntryType.BLOCK,
    EntryType.DIRECTORY,
    EntryType.FIFO,
)
_CODES: Final = {kind: code for code, kind in enumerate(_KINDS)}
_LINKS: Final = (EntryType.HARDLINK, EntryType.SYMLINK)
_DEVICES: Final = (EntryType.CHARACTER, EntryType.BLOCK)
_NANOSECONDS: Final = 1_000_000_000
_END: Final = b"\0"
_BATCH: Final = 4096
_SHOWN: Final = 200


class PackedEntries(msgspec.Struct, frozen=True, array_like=True):
    """The columns; see `EntryPacker` for what is in them. Numbers are little-endian.

    Attributes:
        count: of entries.
        shared: 16 bits each: how many bytes a name shares with the one before.
        names: the rest of each name, with a NUL behind it.
        kinds: 8 bits each.
        owners: 32 bits each: which of the `attributes`.
        attributes: threes of 32 bits: mode, uid, gid.
        seconds: 64 bits each, of the time.
        fractions: 32 bits each, nanoseconds of the time.
        sizes: 64 bits each.
        offsets: 64 bits each, against where the entry is expected.
        starts: 64 bits each, against the entry's offset; 0 for what has no bytes.
        links: of links, in their order, with a NUL behind each.
        devices: twos of 32 bits, of devices, in their order.
        xattrs: of those entries that have any, by number.
    """

    count: int
    shared: bytes
    names: bytes
    kinds: bytes
    owners: bytes
    attributes: bytes
    seconds: bytes
    fractions: bytes
    sizes: bytes
    offsets: bytes
    starts: bytes
    links: bytes
    devices: bytes
    xattrs: dict[int, tuple[tuple[bytes, bytes], ...]]


class EntryPacker:
    """Packs entries as they come, some thousands at a time: that is faster by half."""

    def __init__(self, block: int) -> None:
        """Start; `block` is what payloads are padded to: 512 in a tar, 1 where nothing is."""
        self._block = block
        self._batch: list[IndexedEntry] = []
        self._count = 0
        self._last = b""
        self._expected = 0
        self._shared = numbers("H")
        self._names: list[bytes] = []
        self._kinds = bytearray()
        self._owners = numbers("I")
        self._attributes: dict[tuple[int, int, int], int] = {}
        self._seconds = numbers("q")
        self._fractions = numbers("I")
        self._sizes = numbers("Q")
        self._offsets = numbers("q")
        self._starts = numbers("q")
        self._links: list[bytes] = []
        self._devices = numbers("I")
        self._xattrs: dict[int, tuple[tuple[bytes, bytes], ...]] = {}

    def add(self, indexed: IndexedEntry) -> None:
        """Append an entry."""
        self._batch.append(indexed)
        if len(self._batch) >= _BATCH:
            self._flush()

    def finish(self) -> PackedEntries:
        """Return what was packed."""
        self._flush()
        attributes = numbers("I", [value for owner in self._attributes for value in owner])
        return PackedEntries(
            self._count,
            to_bytes(self._shared),
            _joined(self._names),
            bytes(self._kinds),
            to_bytes(self._owners),
            to_bytes(attributes),
            to_bytes(self._seconds),
            to_bytes(self._fractions),
            to_bytes(self._sizes),
            to_bytes(self._offsets),
            to_bytes(self._starts),
            _joined(self._links),
            to_bytes(self._devices),
            self._xattrs,
        )

    def _flush(self) -> None:
        entries = [indexed.entry for indexed in self._batch]
        times = [divmod(entry.mtime, _NANOSECONDS) for entry in entries]
        self._seconds.extend([seconds for seconds, _ in times])
        self._fractions.extend([fraction for _, fraction in times])
        self._sizes.extend([entry.size for entry in entries])
        self._kinds += bytes([_CODES[entry.type] for entry in entries])
        owners = self._attributes
        self._owners.extend(
            [
                owners.setdefault((entry.mode, entry.uid, entry.gid), len(owners))
                for entry in entries
            ]
        )
        self._links += [entry.link for entry in entries if entry.type in _LINKS]
        for number, entry in enumerate(entries, self._count):
            if entry.xattrs:
                self._xattrs[number] = entry.xattrs
            if entry.type in _DEVICES:
                self._devices.extend((entry.major, entry.minor))
        self._add_names(entries)
        self._add_places()
        self._count += len(entries)
        self._batch.clear()

    def _add_names(self, entries: list[Entry]) -> None:
        last, all_shared = self._last, []
        for entry in entries:
            name = b"/".join(entry.path)
            shared = last.rfind(b"/") + 1
            while shared and not name.startswith(last[:shared]):
                shared = last.rfind(b"/", 0, shared - 1) + 1
            all_shared.append(shared)
            self._names.append(name[shared:])
            last = name
        self._shared.extend(all_shared)
        self._last = last

    def _add_places(self) -> None:
        place, offsets, starts = self._expected, [], []
        for indexed in self._batch:
            entry, start = indexed.entry, indexed.start
            offsets.append(entry.offset - place)
            starts.append(start - entry.offset if entry.size else 0)
            place = expected(entry, start, self._block)
        self._offsets.extend(offsets)
        self._starts.extend(starts)
        self._expected = place


def pack(entries: Iterable[IndexedEntry], block: int) -> PackedEntries:
    """Return entries packed; `block` as for `EntryPacker`."""
    packer = EntryPacker(block)
    for indexed in entries:
        packer.add(indexed)
    return packer.finish()


def expected(entry: Entry, start: int, block: int) -> int:
    """Return where the entry after this one is expected."""
    if not entry.size:
        return entry.offset
    return -(-(start + entry.size) // block) * block


def unpack(packed: PackedEntries, limits: Limits, block: int, size: int) -> Iterator[IndexedEntry]:
    """Yield the entries again, by the rules of the strict reader.

    Args:
        packed: whoever made it.
        limits: budgets of the layer.
        block: as it was packed with.
        size: bytes of the layer's stream.

    Raises:
        RefusedInput: malformed; an entry breaks a rule; its bytes are not behind those of the
            entry before, or outside of the stream.
    """
    return _Unpacker(packed, limits, block, size).entries()


class _Unpacker:
    """One pass over packed entries."""

    def __init__(self, packed: PackedEntries, limits: Limits, block: int, size: int) -> None:
        self._number = 0
        self._name = b""
        self._block = block
        self._size = size
        self._packed = packed
        self._rules = EntryRules(limits, self._refuse)

    def entries(self) -> Iterator[IndexedEntry]:
        packed, count = self._packed, self._packed.count
        names = self._texts(packed.names, count, "names")
        links = self._texts(packed.links, self._number_of(_LINKS), "targets")
        devices = self._devices(packed.devices, self._number_of(_DEVICES))
        attributes = self._attributes(packed.attributes)
        columns = zip(
            from_bytes("H", packed.shared, count, "names"),
            from_bytes("B", packed.kinds, count, "types"),
            from_bytes("I", packed.owners, count, "owners"),
            from_bytes("q", packed.seconds, count, "times"),
            from_bytes("I", packed.fractions, count, "fractions"),
            from_bytes("Q", packed.sizes, count, "sizes"),
            from_bytes("q", packed.offsets, count, "offsets"),
            from_bytes("q", packed.starts, count, "starts"),
            strict=True,
        )
        make, nothing, place, end = self._rules.make, (0, 0), 0, 0
        for shared, code, owner, seconds, fraction, size, offset, start in columns:
            self._name = name = self._name[:shared] + next(names)
            if code >= len(_KINDS) or owner >= len(attributes) or fraction >= _NANOSECONDS:
                raise self._refuse("a type, owner or time out of range")
            kind, (mode, uid, gid) = _KINDS[code], attributes[owner]
            xattrs = packed.xattrs.get(self._number, ())
            if xattrs:
                self._rules.check_xattrs(xattrs)
            place += offset
            entry = make(
                name,
                kind,
                mode,
                uid,
                gid,
                seconds * _NANOSECONDS + fraction,
                size,
                next(links) if kind in _LINKS else b"",
                next(devices) if kind in _DEVICES else nothing,
                xattrs,
                place,
            )
            if size:
                start += place
                if not end <= place <= start <= self._size - size:
                    raise self._refuse("its bytes overlap others or lie outside of the stream")
                end = start + size
                place = expected(entry, start, self._block)
            yield IndexedEntry(entry, start)
            self._number += 1

    def _attributes(self, data: bytes) -> list[tuple[int, int, int]]:
        values = from_bytes("I", data, len(data) // 12 * 3, "attributes")
        return list(zip(values[::3], values[1::3], values[2::3], strict=True))

    def _number_of(self, kinds: tuple[EntryType, ...]) -> int:
        return sum(self._packed.kinds.count(_CODES[kind]) for kind in kinds)

    def _devices(self, data: bytes, count: int) -> Iterator[tuple[int, int]]:
        values = from_bytes("I", data, 2 * count, "devices")
        return zip(values[::2], values[1::2], strict=True)

    def _texts(self, data: bytes, count: int, what: str) -> Iterator[bytes]:
        if data.count(_END) != count or data[-1:] not in (b"", _END):
            raise RefusedInput(f"malformed layer index: not {count} {what}")
        return _split(data)

    def _refuse(self, why: str) -> RefusedInput:
        return RefusedInput(
            f"layer index entry {self._name[:_SHOWN]!r} (number {self._number}): {why}"
        )


def _split(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = data.index(_END, at)
        yield data[at:end]
        at = end + 1


def _joined(texts: list[bytes]) -> bytes:
    return b"".join([text + _END for text in texts])
