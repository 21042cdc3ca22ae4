"""Our unpacker on a snapshotter behind a socket: the same trees, in order and side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from support.layout import File, LayoutBuilder, opaque, tar_of, whiteout
from support.unpacking import node_on, unpacked_digest

from snapcore.service import serving
from snapcore.service.client import open_service
from snapcore.snapshots import Capability, HookTrace, open_snapshotter

pytestmark = pytest.mark.needs_root

LAYERS: Final = (
    tar_of(
        File("etc/", mode=0o711, uid=3),
        File("etc/a", b"one"),
        File("etc/sub/", mode=0o700),
        File("etc/sub/x", b"x"),
        File("bin", link="usr/bin"),
        File("usr/", mode=0o750),
        File("usr/bin/"),
        File("usr/bin/sh", b"shell", mode=0o4755),
    ),
    tar_of(whiteout("etc/a"), File("bin/new", b"through a link")),
    tar_of(opaque("etc/sub"), File("etc/sub/z", b"z"), File("usr/bin/ash", hardlink="usr/bin/sh")),
)


@pytest.fixture
def layout(tmp_path: Path) -> str:
    builder = LayoutBuilder(tmp_path / "layout")
    builder.add_image("latest", [builder.add_layer(layer, "gzip") for layer in LAYERS])
    return str(builder.directory)


@pytest.mark.parametrize("backend", ["native", "overlay"])
def test_an_image_unpacked_over_a_socket_has_the_same_digest(
    backend: str, layout: str, tmp_path: Path
) -> None:
    with node_on(tmp_path / "plain") as plain:
        wanted = unpacked_digest(plain, layout, backend)
    address, calls = str(tmp_path / "s/socket"), list[HookTrace]()
    with (
        open_snapshotter(backend, str(tmp_path / "served")) as here,
        serving(address, [here]),
        open_service(address, backend, trace=calls.append) as client,
        node_on(tmp_path / "node", client) as ours,
    ):
        assert client.capabilities == here.capabilities
        assert unpacked_digest(ours, layout, backend) == wanted
        assert len(list(here.walk(["kind==committed"]))) == len(LAYERS)
        assert [call.failed for call in calls if call.hook == "commit"] == [False] * len(LAYERS)
        # Side by side where that can be, as it would be without a socket between.
        alone = [c for c in calls if c.hook == "prepare" and c.arguments["parent"] == "''"]
        together = Capability.REBASE in client.capabilities
        assert len(alone) == (len(LAYERS) if together else 1)
