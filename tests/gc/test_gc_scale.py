"""A node with 200,000 things: how long a collection takes, and how long writers wait for it."""

from __future__ import annotations

import hashlib
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

import pytest
from support.collect import NAME, Root, open_root

from snapcore.content import ContentInfo, ContentStore, IngestStatus
from snapcore.errors import NotFound
from snapcore.gc import Collector
from snapcore.gc.scan import Sources
from snapcore.gc.values import Backends
from snapcore.labels import GC_REF_CONTENT, gc_ref_snapshot
from snapcore.metadata import Resource
from snapcore.oci import Descriptor, Digest
from snapcore.snapshots import Info, Kind, Reclaimed, Snapshotter, Usage, no_checkpoint

IMAGES: Final = 20_000
LAYERS: Final = 4
"""So an image is ten things: a manifest, a config, four layers and four snapshots."""


def digest(text: str) -> Digest:
    return Digest("sha256", hashlib.sha256(text.encode()).hexdigest())


class Blobs:
    """A content store that has nothing on disk."""

    def __init__(self) -> None:
        self.infos: Final[dict[Digest, ContentInfo]] = {}

    def sizes(self) -> Iterator[tuple[Digest, int]]:
        return ((info.digest, info.size) for info in self.walk())

    def walk(self) -> Iterator[ContentInfo]:
        return iter(tuple(self.infos.values()))

    def statuses(self) -> tuple[IngestStatus, ...]:
        return ()

    def delete(self, name: Digest) -> None:
        del self.infos[name]

    def expire_quarantine(self) -> int:
        return 0

    def cleanup(self) -> int:
        return 0


class Snapshots:
    """A snapshotter that has nothing on disk."""

    name: Final = NAME

    def __init__(self) -> None:
        self.infos: Final[dict[str, Info]] = {}

    def walk(self) -> Iterator[Info]:
        return iter(tuple(self.infos.values()))

    def stat(self, key: str) -> Info:
        if key not in self.infos:
            raise NotFound(key)
        return self.infos[key]

    def usage(self, key: str) -> Usage:
        del key
        return Usage(1, 1)

    def remove(self, key: str, **_: object) -> Info:
        return self.infos.pop(key)

    def cleanup(self, **_: object) -> Reclaimed:
        return Reclaimed()


def fill(root: Root, blobs: Blobs, snapshots: Snapshots) -> None:
    """Make the images; every other one has no name."""
    for number in range(IMAGES):
        manifest, config = digest(f"manifest {number}"), digest(f"config {number}")
        layers = [digest(f"layer {number} {layer}") for layer in range(LAYERS)]
        named = {f"{GC_REF_CONTENT}.l.{n}": str(layer) for n, layer in enumerate(layers)}
        named[f"{GC_REF_CONTENT}.config"] = str(config)
        top = f"{number}-{LAYERS - 1}"
        blobs.infos[manifest] = ContentInfo(manifest, 1, labels=named)
        blobs.infos[config] = ContentInfo(config, 1, labels={gc_ref_snapshot(NAME): top})
        for n, layer in enumerate(layers):
            blobs.infos[layer] = ContentInfo(layer, 1)
            parent = f"{number}-{n - 1}" if n else ""
            snapshots.infos[f"{number}-{n}"] = Info(Kind.COMMITTED, f"{number}-{n}", parent)
    for number in range(0, IMAGES, 2):
        target = Descriptor("application/x", digest(f"manifest {number}"), 1)
        root.metadata.images.put(f"localhost/scale:{number}", target)


@contextmanager
def writing(root: Root) -> Iterator[list[float]]:
    """Take and drop leases all the time; yield how long each time took, in seconds."""
    waits: list[float] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.005):
            begun = time.perf_counter()
            lease = root.metadata.leases.create()
            root.metadata.leases.hold(lease.id, [Resource("content", str(digest("layer 1 1")))])
            root.metadata.leases.delete(lease.id)
            waits.append(time.perf_counter() - begun)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield waits
    finally:
        stop.set()
        thread.join()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_writers_do_not_wait_for_a_collection_of_200_000_things(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blobs, snapshots = Blobs(), Snapshots()
    with open_root(tmp_path) as root:
        fill(root, blobs, snapshots)
        things = len(blobs.infos) + len(snapshots.infos)
        assert things == 200_000
        sources = Sources(
            root.metadata,
            cast(ContentStore, blobs),
            Backends((cast(Snapshotter, snapshots),)),
            lambda _key: False,
            lambda _owner: True,
            no_checkpoint,
        )
        collector = Collector(sources, str(tmp_path / "lock"), root.owner.id)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with writing(root) as waits:
            report = collector.collect()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    with capsys.disabled():
        sys.stdout.write(
            f"\n{things} things, {len(report.removed)} removed: mark"
            f" {report.seconds['mark']:.1f} s, sweep {report.seconds['sweep']:.1f} s,"
            f" longest of {len(waits)} writes {max(waits) * 1000:.0f} ms,"
            f" {grown / 1024:.0f} MiB of memory\n"
        )
    # The writer holds one layer of garbage now and then: it may be spared.
    assert len(report.removed) + len(report.spared) == things // 2
    assert len(report.spared) <= 1
    assert len(waits) > 10
    assert max(waits) < report.seconds["mark"] / 2
