"""Zstandard (RFC 8878) as a stream of bounded blocks.

The decoder is the zstandard package. Beside it, `FrameScanner` walks the frame structure of the
same bytes, because the decoder's stream takes a cut frame for a clean end, and because windows
and dictionaries must be refused before memory is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import zstandard

from snapcore.archive.blob import READ_SIZE, Blob
from snapcore.archive.types import Limits
from snapcore.errors import RefusedInput

MAGIC: Final = b"\x28\xb5\x2f\xfd"
BLOCK_SIZE: Final = 256 * 1024
"""Most bytes that one step puts out."""
_SKIPPABLE: Final = b"\x2a\x4d\x18"
_CHECKSUM_SIZE: Final = 4
_RLE: Final = 1
_RESERVED: Final = 3
_CONTENT_SIZE_BYTES: Final = (0, 2, 4, 8)
_DICTIONARY_BYTES: Final = (0, 1, 2, 4)
_LEAST_WINDOW: Final = 1024


def is_magic(head: bytes) -> bool:
    """Return whether these first four bytes begin a zstd frame or a skippable frame."""
    return head[:4] == MAGIC or (head[1:4] == _SKIPPABLE and 0x50 <= head[0] <= 0x5F)


class FrameScanner:
    """Follows the frames of a zstd stream without decoding them (RFC 8878 §3.1)."""

    def __init__(self, limits: Limits) -> None:
        """Start before the first frame; `limits` gives `window` and `members`."""
        self._limits = limits
        self._frames = 0
        self._position = 0
        self._skip = 0
        self._field = b""
        self._want = 4
        self._then: Callable[[bytes], None] = self._magic
        self._checksum = False
        self._descriptor = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream.

        Raises:
            RefusedInput: no frame here, a dictionary, a window past the limit, too many frames.
        """
        at, end = 0, len(data)
        while at < end:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                at += step
                continue
            piece = data[at : at + self._want - len(self._field)]
            at += len(piece)
            self._field += piece
            if len(self._field) == self._want:
                field, self._field = self._field, b""
                self._then(field)
        self._position += end

    def finish(self) -> None:
        """Say that the stream ends here.

        Raises:
            RefusedInput: inside a frame.
        """
        if self._skip or self._field or self._then != self._magic:
            raise RefusedInput(
                f"zstd frame {self._frames} is cut off: the blob ends at byte {self._position}"
            )

    def _expect(self, want: int, then: Callable[[bytes], None]) -> None:
        self._want, self._then = want, then

    def _magic(self, field: bytes) -> None:
        self._frames += 1
        if self._frames > self._limits.members:
            raise RefusedInput(f"more than {self._limits.members} zstd frames in one layer")
        if field == MAGIC:
            self._expect(1, self._frame_descriptor)
        elif is_magic(field):
            self._expect(4, self._skippable)
        else:
            raise RefusedInput(
                f"bytes after zstd frame {self._frames - 1} are no further frame: {field!r}"
            )

    def _skippable(self, field: bytes) -> None:
        self._skip = int.from_bytes(field, "little")
        self._expect(4, self._magic)

    def _frame_descriptor(self, field: bytes) -> None:
        self._descriptor = descriptor = field[0]
        if descriptor & 0x08:
            raise RefusedInput(f"zstd frame {self._frames} has a reserved bit set")
        if descriptor & 0x03:
            raise RefusedInput(f"zstd frame {self._frames} needs a dictionary; layers have none")
        self._checksum = bool(descriptor & 0x04)
        single = bool(descriptor & 0x20)
        size = _CONTENT_SIZE_BYTES[descriptor >> 6] or int(single)
        self._expect(size + int(not single), self._frame_header)

    def _frame_header(self, field: bytes) -> None:
        if self._descriptor & 0x20:
            # With two bytes the field counts from 256 on.
            window = int.from_bytes(field, "little") + (256 if len(field) == 2 else 0)
        else:
            base = 1 << (10 + (field[0] >> 3))
            window = base + base // 8 * (field[0] & 7)
        if window > self._limits.window:
            raise RefusedInput(
                f"zstd frame {self._frames} needs a window of {window} bytes;"
                f" at most {self._limits.window} are allowed"
            )
        self._expect(3, self._block)

    def _block(self, field: bytes) -> None:
        header = int.from_bytes(field, "little")
        kind = header >> 1 & 3
        if kind == _RESERVED:
            raise RefusedInput(f"zstd frame {self._frames} has a block of a reserved type")
        self._skip = 1 if kind == _RLE else header >> 3
        if not header & 1:
            return
        if self._checksum:
            self._skip += _CHECKSUM_SIZE
        self._expect(4, self._magic)


class _ScannedBlob:
    """What the decoder reads from: the blob's bytes, each seen by the scanner first."""

    def __init__(self, blob: Blob, head: bytes, limits: Limits) -> None:
        self._blob = blob
        self._head = head
        self._scanner = FrameScanner(limits)

    def read(self, size: int) -> bytes:
        data, self._head = self._head or self._blob.read(size), b""
        if data:
            self._scanner.feed(data)
        else:
            self._scanner.finish()
        return data


def unzstd(blob: Blob, head: bytes, limits: Limits) -> Iterator[bytes]:
    """Yield the uncompressed bytes of all frames up to the end of the blob.

    Args:
        blob: read to its end.
        head: what has been read of it already.
        limits: `window` and `members` count.

    Raises:
        RefusedInput: a damaged or cut frame, a wrong content checksum, a dictionary, bytes that
            are no frame, a window past the limit, too many frames.
    """
    source = _ScannedBlob(blob, head, limits)
    decoder = zstandard.ZstdDecompressor(max_window_size=max(limits.window, _LEAST_WINDOW))
    reader = decoder.stream_reader(
        source,  # type: ignore[arg-type] # the stub wants a whole IO; the reader calls read only
        read_size=READ_SIZE,
        read_across_frames=True,
        closefd=False,
    )
    try:
        while block := reader.read(BLOCK_SIZE):
            yield block
    except zstandard.ZstdError as error:
        raise RefusedInput(f"zstd data is damaged near byte {blob.size}: {error}") from error
