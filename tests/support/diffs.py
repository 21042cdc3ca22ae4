"""Layers that were made by comparing trees: writing them, and reading them back."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import zstandard

from snapcore.archive import (
    BlockReader,
    Compression,
    DiffOptions,
    Entry,
    Limits,
    TarReader,
    WrittenLayer,
    diff_trees,
    diff_upper,
)
from snapcore.oci import WhiteoutStyle
from support.layers import Layer

PLAIN = DiffOptions(Compression.NONE)


@dataclass(frozen=True, slots=True)
class Made:
    """A layer, its blob, and what the strict reader reads in it."""

    written: WrittenLayer
    blob: bytes

    @property
    def layer(self) -> Layer:
        """The entries of an uncompressed layer, with their payload."""
        return read_tar(self.blob)

    @property
    def names(self) -> list[str]:
        """The entries' names, those of directories with a slash."""
        return [
            b"/".join(entry.path).decode() + ("/" if entry.type == "directory" else "")
            for entry, _ in self.layer
        ]


def read_tar(data: bytes) -> list[tuple[Entry, bytes]]:
    """Read an archive with the strict reader."""
    blocks = iter([data])
    reader = TarReader(BlockReader(lambda: next(blocks, b"")), Limits())
    return [(entry, b"".join(map(bytes, reader.payload()))) for entry in reader]


def made(diff: Callable[[Callable[[bytes], object]], WrittenLayer]) -> Made:
    """Collect what is written."""
    out = io.BytesIO()
    written = diff(out.write)
    return Made(written, out.getvalue())


def between(before: object | None, after: object, options: DiffOptions = PLAIN) -> Made:
    """Compare two directories."""
    old = None if before is None else str(before)
    return made(lambda write: diff_trees(old, str(after), write, options))


def of_upper(
    upper: object,
    style: WhiteoutStyle = WhiteoutStyle.OVERLAY,
    lowers: Sequence[str] | None = None,
) -> Made:
    """Read an upper directory."""
    return made(lambda write: diff_upper(str(upper), style, write, PLAIN, lowers=lowers))


def unzstd(data: bytes) -> bytes:
    """Inflate one zstd frame of unknown size."""
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)
