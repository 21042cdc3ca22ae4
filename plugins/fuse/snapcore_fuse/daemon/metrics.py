"""What the daemon counts, as text for Prometheus.

The form is the text format, version 0.0.4 (Prometheus, "Exposition formats"). Times are in seconds
and sizes in bytes, as its naming rules want it. Names of series stay.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from snapcore_fuse.cache import CacheStats
from snapcore_fuse.daemon.messages import LayerState

BOUNDS: Final = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the buckets, in seconds."""
_PREFIX: Final = "snapcore_fuse_"
_Sample: TypeAlias = tuple[Mapping[str, str], float]


class Latency:
    """How long something took, in buckets."""

    def __init__(self) -> None:
        self._buckets: Final = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0

    def note(self, seconds: float) -> None:
        """Count one."""
        self._buckets[bisect_left(BOUNDS, seconds)] += 1
        self._seconds += seconds

    def lines(self, name: str) -> Iterator[str]:
        """Yield the samples of a histogram."""
        count = 0
        for bound, found in zip((*map(str, BOUNDS), "+Inf"), self._buckets, strict=True):
            count += found
            yield f'{name}_bucket{{le="{bound}"}} {count}'
        yield f"{name}_sum {self._seconds:.6f}"
        yield f"{name}_count {count}"


@dataclass(frozen=True, slots=True)
class Meters:
    """What is measured of all layers together.

    Attributes:
        reads: of programs, from their request to its answer.
        fetches: requests to registries, each from its beginning to its last byte.
        fetch_errors: those that failed, by the class of the error.
    """

    reads: Latency = field(default_factory=Latency)
    fetches: Latency = field(default_factory=Latency)
    fetch_errors: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class LayerMeasure:
    """What is known of one layer.

    Attributes:
        digest: of its blob.
        state: how it fares.
        completed: bytes that are here of its whole blob.
        read_errors: reads that failed, by the class of the error.
    """

    digest: str
    state: LayerState
    completed: int
    read_errors: Mapping[str, int]


def render(
    meters: Meters, layers: Sequence[LayerMeasure], snapshots: int, cache: CacheStats
) -> str:
    """Return everything, a family of series after the other."""
    lines: list[str] = []

    def family(name: str, kind: str, text: str, samples: Iterable[_Sample]) -> None:
        lines.extend(_head(name, kind, text))
        lines.extend(f"{_PREFIX}{name}{_labels(labels)} {value:.15g}" for labels, value in samples)

    def of_layers(name: str, kind: str, text: str, values: Iterable[float]) -> None:
        digests = ({"layer": each.digest} for each in layers)
        family(name, kind, text, zip(digests, values, strict=True))

    states = [layer.state for layer in layers]
    family("up", "gauge", "Whether the daemon answers.", [({}, 1)])
    family("snapshots", "gauge", "Lazy snapshots that are served.", [({}, snapshots)])
    for name, text, values in (
        ("served_bytes", "Bytes given to programs.", (s.served for s in states)),
        ("fetched_bytes", "Bytes that came from registries.", (s.fetched for s in states)),
        ("wasted_bytes", "Bytes that came and were of no use.", (s.wasted for s in states)),
        ("requests", "Requests for ranges of the blob.", (s.requests for s in states)),
        ("hits", "Pieces that reads found in the cache.", (s.hits for s in states)),
        ("misses", "Pieces that reads had to wait for.", (s.misses for s in states)),
    ):
        of_layers(f"{name}_total", "counter", text, values)
    family(
        "read_errors_total",
        "counter",
        "Reads that failed, by the class of the error.",
        (
            ({"layer": layer.digest, "class": kind}, count)
            for layer in layers
            for kind, count in sorted(layer.read_errors.items())
        ),
    )
    family(
        "fetch_errors_total",
        "counter",
        "Requests that failed, by the class of the error.",
        (({"class": kind}, count) for kind, count in sorted(meters.fetch_errors.items())),
    )
    of_layers("layer_bytes", "gauge", "Bytes of the whole blob.", (s.size for s in states))
    of_layers(
        "layer_completed_bytes",
        "gauge",
        "Bytes of the whole blob that background completion has brought.",
        (layer.completed for layer in layers),
    )
    of_layers("layer_complete", "gauge", "Whether all is here.", (s.complete for s in states))
    for name, latency, text in (
        ("read_seconds", meters.reads, "How long reads of programs took."),
        ("fetch_seconds", meters.fetches, "How long requests to registries took."),
    ):
        lines.extend(_head(name, "histogram", text))
        lines.extend(latency.lines(f"{_PREFIX}{name}"))
    for name, kind, text, value in (
        ("cache_bytes", "gauge", "Bytes of the chunk cache on disk.", cache.bytes),
        ("cache_limit_bytes", "gauge", "Most bytes that it may take.", cache.cap),
        ("cache_chunks", "gauge", "Pieces in the cache.", cache.chunks),
        ("cache_evicted_total", "counter", "Pieces removed to make room.", cache.evicted),
        ("cache_refused_total", "counter", "Pieces that could not be kept.", cache.refused),
        ("cache_damaged_total", "counter", "Pieces that proved damaged.", cache.damaged),
    ):
        family(name, kind, text, [({}, value)])
    return "\n".join(lines) + "\n"


def render_absent() -> str:
    """Return what there is to say where no daemon runs: nothing is lazy, or it died."""
    return "\n".join([*_head("up", "gauge", "Whether the daemon answers."), f"{_PREFIX}up 0", ""])


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {_PREFIX}{name} {text}", f"# TYPE {_PREFIX}{name} {kind}"


def _labels(labels: Mapping[str, str]) -> str:
    # Digests and names of classes: nothing that would have to be escaped.
    inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return f"{{{inside}}}" if inside else ""
