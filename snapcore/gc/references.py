"""Reading the collector's labels (containerd, docs/garbage-collection.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from snapcore import labels as keys
from snapcore.gc.graph import Edge, Thing, ThingKind

_PLAIN: Final = {
    keys.GC_REF_CONTENT: ThingKind.CONTENT,
    keys.GC_REF_IMAGE: ThingKind.IMAGE,
    keys.GC_BREF_CONTENT: ThingKind.CONTENT,
    keys.GC_BREF_IMAGE: ThingKind.IMAGE,
}
_FORWARD: Final = (keys.GC_REF_CONTENT, keys.GC_REF_IMAGE)
_BACK: Final = (keys.GC_BREF_CONTENT, keys.GC_BREF_IMAGE)


def references(labels: Mapping[str, str]) -> Iterator[Edge]:
    """Yield what a thing keeps by its labels."""
    return _named(labels, _FORWARD, keys.GC_REF_SNAPSHOT)


def back_references(labels: Mapping[str, str]) -> Iterator[Edge]:
    """Yield, as the edges' targets, the things that keep this one because its labels say so."""
    return _named(labels, _BACK, keys.GC_BREF_SNAPSHOT)


def expired(labels: Mapping[str, str], now: int) -> bool:
    """Tell whether a `gc.expire` label names a time in the past; a malformed one names none.

    Args:
        labels: of an image or a lease.
        now: nanoseconds since the epoch.
    """
    try:
        end = datetime.fromisoformat(labels.get(keys.GC_EXPIRE, ""))
    except ValueError:
        return False
    return end.tzinfo is not None and end.timestamp() * 1e9 <= now


def _named(labels: Mapping[str, str], plain: tuple[str, ...], snapshots: str) -> Iterator[Edge]:
    for key, value in labels.items():
        for base in plain:
            # `gc.ref.content`, `gc.ref.content.l.0` and `gc.ref.content/x`, but no `…contents`.
            if key == base or key.startswith((f"{base}.", f"{base}/")):
                yield Edge(Thing(_PLAIN[base], value), key)
        if key.startswith(snapshots):
            snapshotter = key.removeprefix(snapshots).partition("/")[0]
            yield Edge(Thing(ThingKind.SNAPSHOT, value, snapshotter), key)
