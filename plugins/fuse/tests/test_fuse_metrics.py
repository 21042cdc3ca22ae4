"""What a daemon counts, as Prometheus reads it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from support.faults import status
from support.fuse_server import environment
from support.images import File
from support.lazyimages import BIG, LazyPlace, estargz_layer, lazy_place

from snapcore.mount import mounts_below
from snapcore.node import PullOptions
from snapcore.oci import Platform
from snapcore_fuse.cache import CacheStats
from snapcore_fuse.daemon.metrics import BOUNDS, Latency, Meters, render

# The text format's lines (Prometheus, "Exposition formats", version 0.0.4).
_SAMPLE = re.compile(
    r"(snapcore_fuse_[a-z_]+)(\{[a-z]+=\"[^\"]*\"(?:,[a-z]+=\"[^\"]*\")*\})? (\S+)"
)
_COMMENT = re.compile(r"# (HELP|TYPE) (snapcore_fuse_[a-z_]+) .+")


def parsed(text: str) -> dict[str, float]:
    """Return the samples of a text, which must be well-formed: each family once, with its head."""
    found: dict[str, float] = {}
    heads: list[str] = []
    assert text.endswith("\n")
    for line in text.splitlines():
        comment, sample = _COMMENT.fullmatch(line), _SAMPLE.fullmatch(line)
        if comment is not None:
            heads += [comment[2]] if comment[1] == "HELP" else []
            assert comment[2] == heads[-1]
            continue
        assert sample is not None, line
        name, labels, value = sample.groups()
        assert re.sub(r"(_bucket|_sum|_count)$", "", name) == heads[-1] or name == heads[-1]
        assert f"{name}{labels or ''}" not in found
        found[f"{name.removeprefix('snapcore_fuse_')}{labels or ''}"] = float(value)
    assert len(heads) == len(set(heads))
    return found


@pytest.fixture
def place(tmp_path: Path, census: None) -> Iterator[LazyPlace]:
    with lazy_place(tmp_path) as made:
        yield made
    assert mounts_below(str(tmp_path)) == ()


def metrics(place: LazyPlace) -> dict[str, float]:
    command = [sys.executable, "-m", "snapcore_fuse.metrics", place.places.root]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    return parsed(done.stdout)


@pytest.mark.needs_root
def test_counts_are_those_of_the_layers_and_errors_have_their_class(place: LazyPlace) -> None:
    layer = estargz_layer(place.builder, File("good", b"hello"), File("bad", BIG))
    place.publish(layer)
    of_layer = f'{{layer="{layer.descriptor.digest}"}}'
    with place.node() as node:
        trio.run(node.pull, place.name, PullOptions(plain_http=True))
        with node.mounted(place.name) as root:
            assert Path(root, "good").read_bytes() == b"hello"
            fault = place.registry.spoiling(f"/blobs/{layer.descriptor.digest}", status(403))
            with fault, pytest.raises(OSError, match="Permission denied"):
                Path(root, "bad").read_bytes()
            assert Path(root, "bad").read_bytes() == BIG
        (report,) = node.images.status(place.name, Platform.local(), ("fuse",))
        known = report.status
        found = metrics(place)
    assert known is not None
    counts = ("served", "fetched", "wasted")
    assert [found[f"{name}_bytes_total{of_layer}"] for name in counts] == [
        known.served,
        known.fetched,
        known.wasted,
    ]
    assert known.served == len(b"hello") + len(BIG)
    assert [found[f"{name}_total{of_layer}"] for name in ("requests", "hits", "misses")] == [
        known.requests,
        known.hits,
        known.misses,
    ]
    denied = f'read_errors_total{{layer="{layer.descriptor.digest}",class="PermissionDenied"}}'
    assert found[denied] >= 1
    assert found['fetch_errors_total{class="PermissionDenied"}'] >= 1
    assert found["read_seconds_count"] > found[denied]
    assert found["fetch_seconds_count"] == found[f"requests_total{of_layer}"]
    assert 0 < found["fetch_seconds_sum"] < 30
    assert (found["up"], found["snapshots"]) == (1, 1)
    assert found[f"layer_bytes{of_layer}"] == layer.descriptor.size
    assert found[f"layer_complete{of_layer}"] == found[f"layer_completed_bytes{of_layer}"] == 0
    assert 0 < found["cache_bytes"] <= found["cache_limit_bytes"]


@pytest.mark.needs_root
def test_without_a_daemon_it_is_said_and_none_is_started(place: LazyPlace) -> None:
    assert metrics(place) == {"up": 0}
    assert not os.path.exists(place.places.socket)


def test_a_histogram_counts_what_is_below_each_bound() -> None:
    latency = Latency()
    for seconds in (BOUNDS[0], BOUNDS[0] * 1.01, BOUNDS[-1] * 2):
        latency.note(seconds)
    lines = list(latency.lines("t"))
    assert lines[:2] == [f't_bucket{{le="{BOUNDS[0]}"}} 1', f't_bucket{{le="{BOUNDS[1]}"}} 2']
    assert lines[-3] == 't_bucket{le="+Inf"} 3'
    assert lines[-1] == "t_count 3"


def test_every_name_is_in_the_documents() -> None:
    meters = Meters()
    meters.fetch_errors["Unavailable"] += 1
    text = render(meters, [], 0, CacheStats(*range(8)))
    names = set(re.findall(r"# TYPE (\S+)", text))
    assert len(names) == 21
    described = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert {name for name in names if f"`{name}`" not in described} == set()
