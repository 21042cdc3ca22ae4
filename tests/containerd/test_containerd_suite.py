"""containerd's own tests of a snapshotter pass over the socket, on each of our backends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from support.containerd import snapshotter_suite

from snapcore.snapshots import probe_snapshotter

pytestmark = [pytest.mark.containerd, pytest.mark.needs_root, pytest.mark.timeout(900)]

_RESULT: Final = re.compile(r"^ +--- (PASS|FAIL|SKIP): TestSnapshotter/(\w+)", re.MULTILINE)


@pytest.fixture
def place() -> Iterator[Path]:
    # A short path: sockets lie in it, each test of the suite adds to it.
    with tempfile.TemporaryDirectory(prefix="suite-") as place:
        yield Path(place)


@pytest.mark.parametrize("snapshotter", ["overlay", "native", "fuse", "erofs"])
def test_containerds_suite(
    snapshotter: str,
    place: Path,
    tmp_path_factory: pytest.TempPathFactory,
    record_property: Callable[[str, object], None],
) -> None:
    pytest.importorskip("grpc", reason="not installed: snapcore[service]")
    probe = probe_snapshotter(snapshotter, str(place / "probe"))
    if not probe.usable:
        pytest.skip(f"{snapshotter} does not work here: {probe.reason}")
    done = subprocess.run(
        [
            str(snapshotter_suite(tmp_path_factory)),
            *("-test.root", "-test.v", "-test.parallel", "2"),
            *("-snapcore.python", sys.executable, "-snapcore.snapshotter", snapshotter),
        ],
        env={**os.environ, "TMPDIR": str(place)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    results = {name: result for result, name in _RESULT.findall(done.stdout)}
    for name, result in results.items():
        record_property("shown", f"{snapshotter:8} {result} {name}")
    failed = [name for name, result in results.items() if result == "FAIL"]
    assert not failed, done.stdout[-20_000:]
    assert done.returncode == 0, done.stdout[-20_000:]
    assert [name for name, result in results.items() if result == "SKIP"] == ["Rename"]
    assert len(results) == 21
