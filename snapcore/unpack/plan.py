"""What must be done for one image: which layers are there, which are holes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from snapcore.content import ContentStore
from snapcore.errors import NotFound, RefusedInput, ResourceExhausted
from snapcore.oci import Config, Descriptor, Digest, chain_ids, is_layer
from snapcore.snapshots import Capability, Info, Kind, Snapshotter, State


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One layer of an image and the snapshot that it becomes.

    Attributes:
        index: 0 is the base layer.
        descriptor: the blob.
        diff_id: digest of the uncompressed layer.
        chain_id: name of the snapshot.
        parent: name of the snapshot below, "" for the base layer.
    """

    index: int
    descriptor: Descriptor
    diff_id: Digest
    chain_id: str
    parent: str


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """One image for some snapshotters.

    Attributes:
        layers: all of them, the base layer first.
        lacking: by snapshotter, the indexes of the layers that must be made: those above the
            highest committed one, and those that are broken.
    """

    layers: tuple[LayerPlan, ...]
    lacking: Mapping[str, frozenset[int]]

    @property
    def holes(self) -> tuple[LayerPlan, ...]:
        """The layers that some snapshotter lacks."""
        indexes = frozenset().union(*self.lacking.values())
        return tuple(layer for layer in self.layers if layer.index in indexes)

    def lacks(self, snapshotter: str, layer: LayerPlan) -> bool:
        """Tell whether a layer must be made for a snapshotter."""
        return layer.index in self.lacking[snapshotter]

    @property
    def chain_id(self) -> str:
        """Chain ID of the whole image; "" for an image without layers."""
        return self.layers[-1].chain_id if self.layers else ""


def layer_plans(config: Config, layers: Sequence[Descriptor], what: str) -> tuple[LayerPlan, ...]:
    """Join a manifest's layers with a config's diff IDs.

    Args:
        config: the image's config.
        layers: the manifest's layers.
        what: names the image in messages.

    Raises:
        RefusedInput: their numbers differ, `rootfs.type` is not "layers", or a layer is of a
            media type that cannot be applied. Checked before any layer is fetched.
    """
    if config.rootfs_type != "layers" and (layers or config.rootfs_type):
        raise RefusedInput(f"{what}: rootfs.type is {config.rootfs_type!r}, not 'layers'")
    if len(config.diff_ids) != len(layers):
        raise RefusedInput(
            f"{what}: the manifest has {len(layers)} layers,"
            f" its config has {len(config.diff_ids)} diff IDs"
        )
    for layer in layers:
        if not is_layer(layer.media_type):
            raise RefusedInput(
                f"{what}: layer {layer.digest} has media type {layer.media_type!r},"
                " which cannot be unpacked"
            )
    chain = chain_ids(config.diff_ids)
    return tuple(
        LayerPlan(
            index,
            layer,
            config.diff_ids[index],
            str(chain[index]),
            str(chain[index - 1]) if index else "",
        )
        for index, layer in enumerate(layers)
    )


def plan_image(layers: Sequence[LayerPlan], snapshotters: Sequence[Snapshotter]) -> ImagePlan:
    """Ask snapshotters top-down what they have.

    Below the highest committed layer only what is broken is a hole.
    """
    lacking = {snapshotter.name: _holes(layers, snapshotter) for snapshotter in snapshotters}
    return ImagePlan(tuple(layers), lacking)


def _holes(layers: Sequence[LayerPlan], snapshotter: Snapshotter) -> frozenset[int]:
    holes: set[int] = set()
    found = False
    for plan in reversed(layers):
        info = _committed(snapshotter, plan.chain_id)
        if info is None and found:
            continue
        if info is None or info.state is State.BROKEN:
            holes.add(plan.index)
        found = found or info is not None
    return frozenset(holes)


def is_committed(snapshotter: Snapshotter, name: str) -> bool:
    """Tell whether a snapshot is committed and not broken itself."""
    info = _committed(snapshotter, name)
    return info is not None and info.state is not State.BROKEN


def is_intact(snapshotter: Snapshotter, name: str) -> bool:
    """Tell whether a snapshot is committed, and neither it nor one below it is broken."""
    info = _committed(snapshotter, name)
    while info is not None and info.state is not State.BROKEN:
        if not info.parent:
            return True
        info = _committed(snapshotter, info.parent)
    return False


def _committed(snapshotter: Snapshotter, name: str) -> Info | None:
    try:
        info = snapshotter.stat(name)
    except NotFound:
        return None
    return info if info.kind is Kind.COMMITTED else None


def check_space(plan: ImagePlan, store: ContentStore, snapshotters: Sequence[Snapshotter]) -> None:
    """Refuse work that cannot fit, before it begins.

    What an image takes uncompressed is not written down anywhere, so this asks only for what
    it takes at the very least: the blobs still to be fetched, and as much again for the files
    of each snapshotter. A disk that fills up later is reported by the write that fails. Who may
    supply layers without their files asks for nothing, and neither does who keeps them where
    nobody knows, behind a socket.

    Args:
        plan: what will be done.
        store: where blobs go.
        snapshotters: where files go.

    Raises:
        ResourceExhausted: a filesystem has less room than that; the message names it.
    """
    filling = [s for s in snapshotters if Capability.REMOTE not in s.capabilities]
    missing = sum(p.descriptor.size for p in plan.holes if not store.exists(p.descriptor.digest))
    needs = [(store.root, missing if filling else 0)]
    for snapshotter in filling:
        lacking = (p for p in plan.layers if plan.lacks(snapshotter.name, p))
        if os.path.isdir(snapshotter.root):
            needs.append((snapshotter.root, sum(p.descriptor.size for p in lacking)))
    by_device: dict[int, tuple[int, str]] = {}
    for path, need in needs:
        device = os.stat(path).st_dev
        before, _ = by_device.get(device, (0, ""))
        by_device[device] = (before + need, path)
    for need, path in by_device.values():
        status = os.statvfs(path)
        free = status.f_bavail * status.f_frsize
        if need > free:
            raise ResourceExhausted(
                f"not enough space on the filesystem of {path!r}: the image needs at least"
                f" {need} bytes, {free} are free"
            )
