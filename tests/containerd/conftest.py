"""A real containerd on each of our backends."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.ctr import Daemons, containerd_node
from support.ctr_images import runnable_image
from support.images import require_tools
from support.layout import LayoutBuilder

from snapcore.snapshots import probe_snapshotter

# Without gRPC these cannot even be imported.
collect_ignore = (
    [] if find_spec("grpc") else ["test_containerd_content.py", "test_containerd_pull.py"]
)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a layout directory with an image to run."""
    builder = LayoutBuilder(tmp_path_factory.mktemp("image") / "layout")
    runnable_image(builder)
    return Path(builder.directory)


@pytest.fixture
def short() -> Iterator[Path]:
    """Return a directory with a short path: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="ctr-") as place:
        yield Path(place)


@pytest.fixture(params=["overlay", "native", "fuse", "erofs"])
def node(request: pytest.FixtureRequest, short: Path) -> Iterator[Daemons]:
    require_tools("containerd", "ctr", "runc")
    pytest.importorskip("grpc", reason="not installed: snapcore[service]")
    probe = probe_snapshotter(request.param, str(short / "probe"))
    if not probe.usable:
        pytest.skip(f"{request.param} does not work here: {probe.reason}")
    with containerd_node(short, request.param) as node:
        yield node
