"""The chunk cache: get, put, and what makes room.

Chunks are appended to segments, a sixty-fourth of the cap each. To make room the oldest segment
goes; chunks in it that were used since they were written are appended again first. That is the
CLOCK approximation of "least recently used", with one bit a chunk and no writing on a read.

No call fails for the disk's sake: what cannot be read is a miss, what cannot be written is kept
in memory for a while.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Final

from snapcore.errors import from_os_error
from snapcore.locks import FileLock
from snapcore.oci import Digest
from snapcore_fuse.cache.index import Index
from snapcore_fuse.cache.recent import Recent
from snapcore_fuse.cache.records import HEADER_BYTES, OWNER_BYTES, Kind, Record
from snapcore_fuse.cache.segment import Segment
from snapcore_fuse.cache.types import CacheStats, ChunkKey

DEFAULT_CAP: Final = 10 << 30
MEMORY_CAP: Final = 32 << 20
PAUSE_SECONDS: Final = 10.0
"""So long nothing is written after the disk took nothing."""
_MIN_SEGMENT: Final = 64 << 10
_MAX_SEGMENT: Final = 256 << 20
_BATCH: Final = 512
_LOG: Final = logging.getLogger(__name__)


class ChunkCache:
    """One store of chunks; thread-safe. Its directory belongs to one process at a time.

    Args:
        root: its directory; created if need be.
        cap: most bytes on disk.
        clock: monotonic seconds.

    Raises:
        Unavailable: another process has the directory.
        ResourceExhausted, PermissionDenied, FailedPrecondition: it cannot be opened.
    """

    def __init__(
        self, root: str, cap: int = DEFAULT_CAP, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cap: Final = cap
        self._clock: Final = clock
        self._segment_size: Final = max(_MIN_SEGMENT, min(cap // 64, _MAX_SEGMENT))
        self._lock: Final = Lock()
        self._making_room: Final = Lock()
        self._owners: Final[dict[tuple[Digest, Digest], bytes]] = {}
        self._recent: Final = Recent(MEMORY_CAP)
        self._hits = self._misses = self._evicted = self._refused = self._damaged = 0
        self._resume_at = float("-inf")
        self._open = True
        try:
            os.makedirs(root, mode=0o700, exist_ok=True)
            self._file_lock: Final = FileLock(os.path.join(root, "lock"))
            self._file_lock.acquire_or_raise(f"chunk cache {root!r}")
            try:
                self._index: Final = Index.load(root)
            except BaseException:
                self._file_lock.release()
                raise
        except OSError as error:
            raise from_os_error(error, f"chunk cache {root!r}") from error
        self._evict(cap, 0)

    def get(self, key: ChunkKey, start: int = 0, size: int | None = None) -> bytes | None:
        """Return a chunk, or a part of it; None if it is not there whole.

        Args:
            key: names it.
            start: first byte wanted.
            size: bytes wanted, None for all from `start` on. More than there are give None.
        """
        owner = self._owner(key)
        with self._lock:
            found = self._index.find(owner, key.number)
            if found is None:
                return self._from_memory(owner, key.number, start, size)
            segment, slot = found
            if size is None:
                size = segment.size(slot) - start
            if start < 0 or size < 0 or start + size > segment.size(slot):
                self._misses += 1
                return None
            segment.pin()
        try:
            data = segment.read(slot, start, size)
        except OSError as error:
            _LOG.warning("cannot read from the chunk cache: %s", error)
            data = None
        with self._lock:
            if data is None:
                self._misses += 1
                self._damaged += self._index.remove(segment, slot)
            else:
                self._hits += 1
                segment.used(slot)
            last = segment.unpin()
        if last:
            segment.shut()
        return data

    def __contains__(self, key: ChunkKey) -> bool:
        """Tell whether a chunk is there; whether it is sound shows only when it is read."""
        owner = self._owner(key)
        with self._lock:
            found = self._index.find(owner, key.number) is not None
            return found or self._recent.get((owner, key.number)) is not None

    def put(self, key: ChunkKey, data: bytes) -> bool:
        """Keep a chunk; nothing happens if it is there already.

        Returns:
            Whether it is on disk now. Where it is not, it is kept in memory for a while.
        """
        owner = self._owner(key)
        with self._lock:
            if self._index.find(owner, key.number) is not None:
                return True
        kept = self._append(Kind.CHUNK, owner, key.number, data)
        if not kept:
            with self._lock:
                self._refused += 1
                self._recent.put((owner, key.number), data)
        self._make_room()
        return kept

    def drop(self, key: ChunkKey) -> None:
        """Forget one chunk, for good."""
        owner = self._owner(key)
        with self._lock:
            self._recent.drop((owner, key.number))
            found = self._index.find(owner, key.number)
            if found is None:
                return
            segment, slot = found
            self._index.remove(segment, slot)
            segment.orders += 1
            segment.pin()
        try:
            segment.overwrite(slot)
        except OSError as error:
            _LOG.warning("cannot write to the chunk cache: %s", error)
        self._unpin(segment)

    def forget(self, layer: Digest) -> None:
        """Forget all chunks of a layer; their room is given back as far as it lies together."""
        prefix = _half(layer)
        with self._lock:
            self._recent.forget(prefix)
            places = self._index.forget(prefix)
        if not places:
            return
        for start in range(0, len(places), _BATCH):
            with self._lock:
                self._index.kill(places[start : start + _BATCH])
        self._append(Kind.FORGET, prefix.ljust(OWNER_BYTES, b"\0"), 0, b"")
        with self._making_room:
            with self._lock:
                sparse = self._index.sparse()
            for segment in sparse:
                self._retire(segment, hot_only=False, budget=self._segment_size)

    def stats(self) -> CacheStats:
        """Return what the cache holds and did."""
        with self._lock:
            return CacheStats(
                chunks=self._index.count,
                bytes=self._index.bytes,
                cap=self._cap,
                hits=self._hits,
                misses=self._misses,
                evicted=self._evicted,
                refused=self._refused,
                damaged=self._damaged,
            )

    def close(self) -> None:
        """Save the tables and let another process have the directory. May be called again."""
        with self._making_room, self._lock:
            if self._open:
                self._open = False
                with suppress(OSError):
                    self._index.save_tables()
                self._index.close()
                self._file_lock.release()

    def _owner(self, key: ChunkKey) -> bytes:
        pair = (key.layer, key.index)
        owner = self._owners.get(pair)
        if owner is None:
            owner = self._owners[pair] = _half(key.layer) + _half(key.index)
        return owner

    def _from_memory(self, owner: bytes, number: int, start: int, size: int | None) -> bytes | None:
        data = self._recent.get((owner, number))
        end = None if data is None else len(data) if size is None else start + size
        if data is None or end is None or not 0 <= start <= end <= len(data):
            self._misses += 1
            return None
        self._hits += 1
        return data[start:end]

    def _append(self, kind: Kind, owner: bytes, number: int, data: bytes) -> bool:
        """Write a record; say whether it was."""
        check = zlib.crc32(data)
        size = HEADER_BYTES + len(data)
        try:
            with self._lock:
                if not self._may_write(size):
                    return False
                segment, offset = self._index.reserve(size, self._segment_size)
        except OSError as error:
            self._failed(error)
            return False
        record = Record(kind, len(data), check, number, offset, owner)
        failure: OSError | None = None
        try:
            segment.write(record, data)
        except OSError as error:
            failure = error
        with self._lock:
            segment.writers -= 1
            if failure is None:
                self._index.add(record, segment, sound=True)
            else:
                # Behind the gap nothing would be found after a crash.
                self._index.roll(segment)
        self._unpin(segment)
        if failure is not None:
            self._failed(failure)
        return failure is None

    def _may_write(self, size: int) -> bool:
        ready = self._open and self._clock() >= self._resume_at
        return ready and self._index.bytes + size <= self._cap and size <= self._cap // 4

    def _unpin(self, segment: Segment) -> None:
        with self._lock:
            last = segment.unpin()
        if last:
            segment.shut()

    def _failed(self, error: OSError) -> None:
        """Write nothing for a while; where the disk is full, give some of it back."""
        _LOG.warning("cannot write to the chunk cache: %s", error)
        with self._lock:
            self._resume_at = self._clock() + PAUSE_SECONDS
            held = self._index.bytes
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            self._evict(held - held // 8, 0)

    def _make_room(self) -> None:
        """Keep two segments' room free, unless somebody is at it already."""
        self._evict(self._cap - 2 * self._segment_size, self._segment_size // 2)
        with self._lock:
            ready = self._index.sealed()
        for segment in ready:
            try:
                segment.write_table()
            except OSError as error:
                self._failed(error)
            self._unpin(segment)

    def _evict(self, most: int, budget: int) -> None:
        """Retire the oldest segments until at most so many bytes are left.

        Args:
            most: bytes of all segments.
            budget: bytes of each that may be written again, if they were used.
        """
        if self._index.bytes <= most or not self._making_room.acquire(blocking=False):
            return
        try:
            while self._index.bytes > most:
                with self._lock:
                    oldest = self._index.oldest()
                if oldest is None:
                    return
                self._retire(oldest, hot_only=True, budget=budget)
        finally:
            self._making_room.release()

    def _retire(self, segment: Segment, *, hot_only: bool, budget: int) -> None:
        """Delete a segment; up to `budget` bytes of it are written again first.

        The lock is held for moments only, and for no file work: readers go on.
        """
        with self._lock:
            if segment not in self._index:
                return
            segment.pin()
            self._index.roll(segment)
            slots = segment.kept(hot_only=hot_only)
        for slot in slots:
            budget -= segment.size(slot)
            if budget < 0:
                break
            self._move(segment, slot)
        with self._lock:
            slots = segment.kept(hot_only=False)
        for start in range(0, len(slots), _BATCH):
            with self._lock:
                removed = [
                    self._index.remove(segment, slot) for slot in slots[start : start + _BATCH]
                ]
                self._evicted += sum(removed)
        with self._lock:
            # Gone already if the cache was closed meanwhile.
            if segment in self._index:
                self._index.discard(segment)
        with suppress(OSError):
            segment.unlink()
        self._unpin(segment)

    def _move(self, segment: Segment, slot: int) -> None:
        owner, number = segment.key(slot)
        with self._lock:
            if self._index.find(owner, number) != (segment, slot):
                return
        with suppress(OSError):
            data = segment.read(slot, 0, segment.size(slot))
            if data is not None:
                self._append(Kind.CHUNK, owner, number, data)


def _half(digest: Digest) -> bytes:
    return hashlib.sha256(str(digest).encode("ascii")).digest()[:16]
