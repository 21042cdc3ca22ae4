"""The whole suite over the socket of `snapcore serve`: what passes in a process passes there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import spawn
from support.ctr import Daemons

from snapcore.snapshots import probe_snapshotter

pytestmark = [pytest.mark.long, pytest.mark.needs_root]

LEFT_OUT = (
    "works in another process",
    "no other process can open",
    "no layer is given",
    "does not claim",
    "it copies",
    "has no broken snapshots",
)


@pytest.fixture
def place() -> Iterator[Path]:
    # A short path: a socket lies in it.
    with tempfile.TemporaryDirectory(prefix="serve-") as place:
        yield Path(place)


@pytest.mark.parametrize("backend", ["overlay", "native", "fuse"])
def test_our_backends_pass_over_a_socket(backend: str, place: Path) -> None:
    probe = probe_snapshotter(backend, str(place / "probe"))
    if not probe.usable:
        pytest.skip(f"{backend} does not work here: {probe.reason}")
    daemons, report = Daemons(place, backend), place / "report.json"
    try:
        daemons.start_service()
        done = spawn(
            *("conformance", f"unix://{daemons.address}", "--snapshotter", backend),
            *("--root", str(place / "work"), "--report", str(report)),
            patience=600,
        )
    finally:
        daemons.stop()
    assert done.code == 0, done.out
    (graded,) = json.loads(report.read_text())["snapshotters"]
    assert set(graded["capabilities"]) == {str(each) for each in probe.capabilities}
    for result in graded["results"]:
        assert result["outcome"] in ("passed", "skipped")
        if result["outcome"] == "skipped":
            assert any(why in result["reason"] for why in LEFT_OUT), result
