"""How indexes of layers are published: one artifact for an image, about its manifest.

Each blob of it is the index of one layer, which an annotation names. Whoever reads one checks it
against that layer as far as that can be done; see `IndexTrust`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from snapcore.archive import Limits
from snapcore.errors import Unimplemented, from_os_error
from snapcore.oci import Descriptor, Digest
from snapcore.snapshots import IndexBlob
from snapcore_fuse.formats import (
    MEDIA_TYPE,
    LayerFormat,
    LayerSource,
    LazySettings,
    build_index,
    plan_layer,
)

ARTIFACT_TYPE: Final = "application/vnd.snapcore.layer.indexes.v1"
LAYER_ANNOTATION: Final = "snapcore.io/layer.digest"
"""On a blob of the artifact: digest of the layer that it is the index of."""
_BLOCK: Final = 1 << 18
_ANY_SIZE: Final = LazySettings(min_layer_size=0)


def make_index(blob: int, layer: Descriptor, diff_id: Digest, *, thin: bool) -> IndexBlob:
    """Make the index of a layer by reading it whole.

    Args:
        blob: open descriptor of its blob, at its beginning.
        layer: what it is.
        diff_id: of its uncompressed tar.
        thin: take eight times as long for an index of a quarter of the size.

    Raises:
        Unimplemented: it brings its own index, or none can be made of it.
        RefusedInput, DigestMismatch: it is damaged, or not what it should be.
    """
    plan = plan_layer(layer, _ANY_SIZE)
    if plan.format is None:
        raise Unimplemented(plan.reason)
    if plan.format is LayerFormat.ESTARGZ:
        raise Unimplemented("it brings a table of contents, which its manifest names")
    source = LayerSource(layer.digest, layer.size, layer.media_type, diff_id)
    index = build_index(_blocks(blob), source, Limits(), thin_windows=thin)
    return IndexBlob(
        ARTIFACT_TYPE, MEDIA_TYPE, {LAYER_ANNOTATION: str(layer.digest)}, index.to_bytes()
    )


def _blocks(blob: int) -> Iterator[bytes]:
    try:
        while block := os.read(blob, _BLOCK):
            yield block
    except OSError as error:
        raise from_os_error(error, "reading a layer") from error
