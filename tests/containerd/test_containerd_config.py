"""containerd takes the configurations that we ship and print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from support.ctr import Daemons
from support.ctr_images import LAYERS, NAME, REFERENCE, archive_of
from support.images import require_tools, run_tool

pytestmark = [pytest.mark.containerd, pytest.mark.needs_root, pytest.mark.timeout(300)]

SHIPPED: Final = Path(__file__).resolve().parents[2] / "deploy/containerd/config-v2.toml"
NATIVE: Final = ("--snapshotter", "native")


@pytest.fixture
def both(short: Path) -> Iterator[Daemons]:
    """Return daemons to be, of which the service serves overlay and native."""
    require_tools("containerd", "ctr", "runc")
    pytest.importorskip("grpc", reason="not installed: snapcore[service]")
    daemons = Daemons(short, "overlay")
    try:
        daemons.start_service(*NATIVE)
        yield daemons
    finally:
        daemons.stop()


def states(node: Daemons) -> dict[str, str]:
    """Return the state of each plugin of containerd's."""
    rows = [line.split() for line in node.ctr("plugins", "ls").splitlines()[1:]]
    return {row[1]: row[-1] for row in rows}


def test_the_shipped_configuration_loads(both: Daemons, tmp_path: Path) -> None:
    text = SHIPPED.read_text().replace("/run/snapcore/service/socket", both.address)
    path = tmp_path / "config.toml"
    path.write_text(text)
    dumped = run_tool("containerd", "--config", str(path), "config", "dump")
    assert "[proxy_plugins.snapcore-overlay]" in dumped
    both.start_containerd(text)
    found = states(both)
    assert (found["snapcore-overlay"], found["cri"]) == ("ok", "ok")


def test_each_snapshotter_has_the_name_that_is_printed(both: Daemons, layout: Path) -> None:
    """CRI too starts with its default, which it would not with a snapshotter that is not there."""
    printed = both.snapcore(
        *NATIVE, "config", "containerd", "--address", both.address, "--cri", "default"
    )
    assert 'snapshotter = "snapcore-overlay"' in printed
    both.start_containerd(printed)
    found = states(both)
    assert {found[name] for name in ("snapcore-overlay", "snapcore-native", "cri")} == {"ok"}
    archive = archive_of(layout, both.place)
    counts = {}
    for name in ("overlay", "native"):
        chosen = ("--snapshotter", f"snapcore-{name}")
        both.ctr("images", "import", *chosen, "--base-name", NAME, archive)
        assert both.ctr("run", "--rm", *chosen, REFERENCE, name, "/bin/hello") == "hello\n"
        counts[name] = len(layers(both, name))
    # And perhaps what the container had.
    assert min(counts.values()) >= LAYERS


def layers(node: Daemons, name: str) -> list[str]:
    """Return the layers that one of our snapshotters has."""
    directory = node.root / "snapshotters" / name / "snapshots"
    return [path.name for path in directory.iterdir()]
