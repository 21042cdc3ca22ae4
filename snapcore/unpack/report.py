"""How an image's layers fare in snapshotters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snapcore.errors import NotFound
from snapcore.oci import Descriptor
from snapcore.snapshots import SnapshotStatus, Snapshotter
from snapcore.unpack.plan import LayerPlan


@dataclass(frozen=True, slots=True)
class LayerReport:
    """How one layer of an image fares in one snapshotter.

    Attributes:
        snapshotter: its name.
        layer: the layer's blob.
        chain_id: the snapshot.
        status: what the snapshotter says of it; None if it does not have it.
    """

    snapshotter: str
    layer: Descriptor
    chain_id: str
    status: SnapshotStatus | None


def layer_reports(
    layers: Sequence[LayerPlan], snapshotters: Sequence[Snapshotter]
) -> tuple[LayerReport, ...]:
    """Ask each snapshotter about each layer.

    Raises:
        SnapcoreError: a snapshotter cannot say.
    """
    return tuple(
        LayerReport(each.name, layer.descriptor, layer.chain_id, _status(each, layer.chain_id))
        for each in snapshotters
        for layer in layers
    )


def _status(snapshotter: Snapshotter, name: str) -> SnapshotStatus | None:
    try:
        return snapshotter.status(name)
    except NotFound:
        return None
