"""Which format a layer is to be tried in, or why in none; and reading kept indexes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from snapcore.archive import Limits
from snapcore.oci import Descriptor, is_layer
from snapcore_fuse.formats.estargz import TOC_DIGEST, EstargzIndex
from snapcore_fuse.formats.spans import SpanIndex
from snapcore_fuse.formats.types import LayerFormat, LayerIndex, LayerSource

_Load = Callable[[bytes, LayerSource, Limits], LayerIndex]
_LOADERS: Final[Mapping[LayerFormat, _Load]] = {
    LayerFormat.ESTARGZ: EstargzIndex.from_bytes,
    LayerFormat.GZIP_SPANS: SpanIndex.from_bytes,
    LayerFormat.TAR: SpanIndex.from_bytes,
}


@dataclass(frozen=True, slots=True)
class LazySettings:
    """What the operator wants of lazy layers.

    Attributes:
        min_layer_size: least bytes of a blob; a smaller one is fetched whole sooner than its
            index.
        formats: which are allowed.
    """

    min_layer_size: int = 1 << 20
    formats: frozenset[LayerFormat] = frozenset(LayerFormat)


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """What is tried with a layer.

    Attributes:
        format: in which it is tried; None if it is unpacked as usual.
        reason: why it is unpacked; "" otherwise.
    """

    format: LayerFormat | None
    reason: str = ""

    @property
    def lazy(self) -> bool:
        """Whether there is something to try."""
        return self.format is not None


def plan_layer(layer: Descriptor, settings: LazySettings) -> LayerPlan:
    """Return what to try with a layer, by what its manifest says.

    A plan is no promise: the blob may turn out not to be what its annotations say, and an index
    of spans must be found first.
    """
    if not is_layer(layer.media_type):
        return LayerPlan(None, f"media type {layer.media_type!r} is no tar layer")
    if layer.size < settings.min_layer_size:
        return LayerPlan(
            None, f"its {layer.size} bytes are less than min_layer_size {settings.min_layer_size}"
        )
    if layer.media_type.endswith("zstd"):
        return LayerPlan(None, "no place within a zstd layer is known to begin decoding at")
    wanted = LayerFormat.TAR
    if layer.media_type.endswith("gzip"):
        wanted = LayerFormat.GZIP_SPANS
        if TOC_DIGEST in layer.annotations and LayerFormat.ESTARGZ in settings.formats:
            wanted = LayerFormat.ESTARGZ
    if wanted not in settings.formats:
        return LayerPlan(None, f"format {wanted.value!r} is not among the formats that are allowed")
    return LayerPlan(wanted)


def load_index(data: bytes, kind: LayerFormat, source: LayerSource, limits: Limits) -> LayerIndex:
    """Return an index that was kept or published.

    Args:
        data: what `LayerIndex.to_bytes` returned.
        kind: what it must be an index of.
        source: the layer.
        limits: budgets of a layer.

    Raises:
        DataLoss: the bytes are damaged.
        RefusedInput: they are no index of this layer and format, or malformed.
    """
    return _LOADERS[kind](data, source, limits)
