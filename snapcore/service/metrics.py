"""What Prometheus can ask for: calls as they end, and the stock at each scrape.

Names follow prometheus.io, "Metric and label naming"; docs/service.md has all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from snapcore.errors import SnapcoreError
from snapcore.service.calls import CallRecord
from snapcore.service.stock import StockTaker
from snapcore.snapshots import Kind, Snapshotter

_log: Final = logging.getLogger("snapcore.service")
# From a look into the table to a tree of files that is copied.
_SECONDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
)  # fmt: skip


class Metrics:
    """All that is measured of one service.

    Attributes:
        registry: what is exposed; of this service alone.
    """

    def __init__(self, snapshotters: Sequence[Snapshotter]) -> None:
        self.registry: Final = CollectorRegistry()
        self._calls = Counter(
            "snapcore_service_calls",
            "Calls that ended, by method and gRPC status code.",
            ("method", "code"),
            registry=self.registry,
        )
        self._errors = Counter(
            "snapcore_service_errors",
            "Calls that failed, by method and class of the error.",
            ("method", "error"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "snapcore_service_call_duration_seconds",
            "How long calls took.",
            ("method",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._takers = tuple(StockTaker(snapshotter) for snapshotter in snapshotters)
        self.registry.register(_Stocks(self._takers))
        ProcessCollector(registry=self.registry)

    def observe(self, call: CallRecord) -> None:
        """Count a call that is over."""
        self._calls.labels(call.method, call.code).inc()
        self._seconds.labels(call.method).observe(call.seconds)
        if call.error:
            self._errors.labels(call.method, call.error).inc()

    def stop(self) -> None:
        """End scrapes that are under way, however much there is to count."""
        for taker in self._takers:
            taker.stop()


class _Stocks(Collector):
    def __init__(self, takers: Sequence[StockTaker]) -> None:
        self._takers = takers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        one = ("snapshotter",)
        up = GaugeMetricFamily(
            "snapcore_snapshotter_up", "Whether a snapshotter could be counted.", labels=one
        )
        snapshots = GaugeMetricFamily(
            "snapcore_snapshots", "Snapshots, by kind.", labels=(*one, "kind")
        )
        size = GaugeMetricFamily(
            "snapcore_committed_bytes", "Bytes that committed snapshots take.", labels=one
        )
        inodes = GaugeMetricFamily(
            "snapcore_committed_inodes", "Inodes that committed snapshots take.", labels=one
        )
        mounts = GaugeMetricFamily("snapcore_mounts", "Mounts that show snapshots.", labels=one)
        for taker in self._takers:
            name = (taker.snapshotter.name,)
            try:
                stock = taker.stock()
            except (SnapcoreError, OSError) as error:
                _log.warning("snapshotter %r cannot be counted: %s", *name, error)
                up.add_metric(name, 0)
                continue
            up.add_metric(name, 1)
            for kind in Kind:
                snapshots.add_metric((*name, kind.value), stock.kinds.get(kind, 0))
            size.add_metric(name, stock.usage.size)
            inodes.add_metric(name, stock.usage.inodes)
            mounts.add_metric(name, stock.mounts)
        yield from (up, snapshots, size, inodes, mounts)
