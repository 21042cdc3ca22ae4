"""Which chunk is in which segment: everything a cache knows, rebuilt from its files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, Self

from snapcore_fuse.cache.records import Kind, Record
from snapcore_fuse.cache.segment import PARTIAL_SUFFIX, SUFFIX, TABLE_SUFFIX, Segment

_SLOT_BITS: Final = 32
_SLOT_MASK: Final = (1 << _SLOT_BITS) - 1


class Index:
    """Segments and the chunks that count. Guarded by the cache's lock.

    Attributes:
        bytes: of all segments.
        count: chunks that count.
    """

    def __init__(self, root: str) -> None:
        self.count = 0
        self.bytes = 0
        self._root: Final = root
        self._segments: Final[dict[int, Segment]] = {}
        # By owner, then by number: the segment's number and the slot in it, as one small integer.
        self._places: Final[dict[bytes, dict[int, int]]] = {}
        self._last: Segment | None = None
        self._unsaved: Final[list[Segment]] = []
        self._next = 0

    @classmethod
    def load(cls, root: str) -> Self:
        """Read what is in a directory; OSError if that cannot be done."""
        index = cls(root)
        try:
            for number in _numbers(root):
                segment = Segment(root, number)
                index._take(segment)
                for record in segment.load():
                    index.add(record, segment, sound=False)
                index.bytes += segment.end
            if index._last is not None:
                index._last.drop_table()
        except BaseException:
            index.close()
            raise
        return index

    def __contains__(self, segment: Segment) -> bool:
        return self._segments.get(segment.number) is segment

    def find(self, owner: bytes, number: int) -> tuple[Segment, int] | None:
        """Return segment and slot of a chunk."""
        place = self._places.get(owner, {}).get(number)
        if place is None:
            return None
        return self._segments[place >> _SLOT_BITS], place & _SLOT_MASK

    def add(self, record: Record, segment: Segment, *, sound: bool) -> None:
        """Take in what a record says.

        Args:
            record: written to `segment`.
            segment: where it is; may have been discarded meanwhile.
            sound: see `Segment.add`.
        """
        if segment not in self:
            return
        if record.kind is Kind.CHUNK:
            self._displace(record.owner, record.number)
            slot = segment.add(record, sound=sound)
            numbers = self._places.setdefault(record.owner, {})
            numbers[record.number] = segment.number << _SLOT_BITS | slot
            self.count += 1
            return
        segment.orders += 1
        if record.kind is Kind.DROP:
            self._displace(record.owner, record.number)
        else:
            self.kill(self.forget(record.owner[:16]))

    def remove(self, segment: Segment, slot: int) -> bool:
        """Let a chunk no longer count, if it still does; say whether it did."""
        owner, number = segment.key(slot)
        found = self.find(owner, number) == (segment, slot)
        if found:
            self._displace(owner, number)
        return found

    def forget(self, prefix: bytes) -> list[int]:
        """Let no chunk of a layer be found any more; return their places, for `kill`."""
        owners = [owner for owner in self._places if owner.startswith(prefix)]
        places = [place for owner in owners for place in self._places.pop(owner).values()]
        self.count -= len(places)
        return places

    def kill(self, places: Sequence[int]) -> None:
        """Let chunks that are not found any more no longer count either."""
        for place in places:
            segment = self._segments.get(place >> _SLOT_BITS)
            if segment is not None:
                segment.kill(place & _SLOT_MASK)

    def reserve(self, size: int, segment_size: int) -> tuple[Segment, int]:
        """Return, pinned, where the next `size` bytes go; OSError if there can be no segment."""
        segment = self._last
        if segment is None or (segment.end and segment.end + size > segment_size):
            self.roll()
            segment = Segment(self._root, self._next)
            segment.drop_table()
            self._take(segment)
        offset = segment.end
        segment.end += size
        self.bytes += size
        segment.writers += 1
        segment.pin()
        return segment, offset

    def roll(self, segment: Segment | None = None) -> None:
        """Append no more to the segment that is appended to, if it is this one or None is given."""
        if self._last is not None and segment in (None, self._last):
            self._unsaved.append(self._last)
            self._last = None

    def oldest(self) -> Segment | None:
        """Return the oldest segment, None if there are none."""
        return next(iter(self._segments.values()), None)

    def sparse(self) -> list[Segment]:
        """Return segments that are worth writing anew: hardly anything in them counts.

        One with orders must stay while there are older ones, or what it took back would return.
        """
        first = self.oldest()
        return [
            segment
            for segment in self._segments.values()
            if segment is not self._last
            and segment.live * 4 <= segment.end
            and (not segment.orders or segment is first)
        ]

    def sealed(self) -> list[Segment]:
        """Return, pinned, the segments whose table is complete and not yet saved."""
        ready = [segment for segment in self._unsaved if not segment.writers]
        for segment in ready:
            self._unsaved.remove(segment)
            segment.pin()
        return ready

    def discard(self, segment: Segment) -> None:
        """Let go of a pinned segment that was rolled; its files are the caller's to delete.

        Its chunks should be removed before, a few at a time; late ones are removed here.
        """
        for slot in segment.kept(hot_only=False):
            self.remove(segment, slot)
        del self._segments[segment.number]
        self.bytes -= segment.end
        if segment in self._unsaved:
            self._unsaved.remove(segment)
        segment.doom()

    def save_tables(self) -> None:
        """Save every table that is not saved yet."""
        self.roll()
        for segment in self._unsaved:
            segment.write_table()
        self._unsaved.clear()

    def close(self) -> None:
        """Close all files; nothing is found any more."""
        for segment in self._segments.values():
            segment.pin()
            segment.doom()
            if segment.unpin():
                segment.shut()
        self._segments.clear()
        self._places.clear()
        self._last = None
        self.count = self.bytes = 0

    def _take(self, segment: Segment) -> None:
        self._segments[segment.number] = segment
        self._last = segment
        self._next = segment.number + 1

    def _displace(self, owner: bytes, number: int) -> None:
        numbers = self._places.get(owner)
        place = None if numbers is None else numbers.pop(number, None)
        if numbers is None or place is None:
            return
        if not numbers:
            del self._places[owner]
        self._segments[place >> _SLOT_BITS].kill(place & _SLOT_MASK)
        self.count -= 1


def _numbers(root: str) -> list[int]:
    """Return the numbers of a directory's segments, and delete what no segment belongs to."""
    parts = [os.path.splitext(name) for name in os.listdir(root)]
    stems = {stem for stem, suffix in parts if suffix == SUFFIX}
    for stem, suffix in parts:
        if suffix == PARTIAL_SUFFIX or (suffix == TABLE_SUFFIX and stem not in stems):
            os.unlink(os.path.join(root, stem + suffix))
    return sorted(int(stem, 16) for stem in stems)
