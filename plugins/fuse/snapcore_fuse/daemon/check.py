"""Whether an index told the truth about its layer, once all of that is here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from snapcore.archive import BlockReader, Limits, TarReader
from snapcore.errors import DataLoss, RefusedInput, from_os_error
from snapcore.oci.digest import Hasher
from snapcore_fuse.formats import LayerFormat, LayerIndex, LayerSource

_REST: Final = 1 << 18
_TAR_STREAMS: Final = (LayerFormat.GZIP_SPANS, LayerFormat.TAR)


def check_index(index: LayerIndex, path: str, source: LayerSource, limits: Limits) -> None:
    """Compare an index that nobody vouches for with a layer whose digests were checked.

    A table of contents is vouched for: the manifest names its digest. Blocks.

    Args:
        index: by which the layer is shown.
        path: the layer's whole blob.
        source: the layer.
        limits: its budgets.

    Raises:
        DataLoss: the index shows other files or other bytes than the layer has.
        SnapcoreError: the blob cannot be read.
    """
    if index.format not in _TAR_STREAMS:
        return
    hasher = source.diff_id.hasher()
    try:
        plain = _plain(index, path, hasher)
        stream = BlockReader(lambda: next(plain, b""))
        told = index.entries()
        for entry in TarReader(stream, limits):
            found = next(told, None)
            start = stream.position if entry.size else 0
            if found is None or (found.entry, found.start) != (entry, start):
                raise DataLoss(f"{_lies(source)}: the tar has {entry.path!r} otherwise")
        while stream.skip(_REST) == _REST:
            pass
    except RefusedInput as error:
        raise DataLoss(f"{_lies(source)}: {error}") from error
    except OSError as error:
        raise from_os_error(error, f"blob {path!r}") from error
    if next(told, None) is not None or hasher.hexdigest() != source.diff_id.hex:
        raise DataLoss(f"{_lies(source)}: it shows what the tar does not have")


def _plain(index: LayerIndex, path: str, hasher: Hasher) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        for number in range(index.reader.count):
            piece = index.reader.piece(number)
            data = os.pread(file.fileno(), piece.blob.size, piece.blob.offset)
            block = index.reader.decode(piece, data)
            hasher.update(block)
            yield block


def _lies(source: LayerSource) -> str:
    return f"the index of layer {str(source.digest)!r} does not tell the truth; pull it anew"
