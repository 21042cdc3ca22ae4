"""Our unpacker fills containerd's own snapshotters, over containerd's own socket."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from support.ctr import Daemons, containerd_alone
from support.images import require_tools
from support.layout import File, LayoutBuilder, opaque, tar_of, whiteout
from support.unpacking import node_on, unpacked_digest

pytestmark = [pytest.mark.containerd, pytest.mark.needs_root, pytest.mark.timeout(300)]

NAMESPACE: Final = "snapcore-test"
# In each layer: containerd's overlayfs takes no root from a parent, its native no directory's time.
DIRECTORIES: Final = (
    File("./", mode=0o750, mtime=1_500_000_000),
    File("etc/", mode=0o711, uid=3),
    File("etc/sub/", mode=0o700),
    File("usr/", mode=0o750),
    File("usr/bin/"),
)
LAYERS: Final = (
    tar_of(
        *DIRECTORIES,
        File("etc/a", b"one"),
        File("etc/sub/x", b"x"),
        File("bin", link="usr/bin"),
        File("usr/bin/sh", b"shell", mode=0o4755),
    ),
    tar_of(*DIRECTORIES, whiteout("etc/a"), File("bin/new", b"through a link")),
    tar_of(*DIRECTORIES, opaque("etc/sub"), File("usr/ash", hardlink="usr/bin/sh")),
)


@pytest.fixture
def containerd() -> Iterator[Daemons]:
    require_tools("containerd", "ctr")
    pytest.importorskip("grpc", reason="not installed: snapcore[service]")
    # A short path: sockets lie in it.
    with (
        tempfile.TemporaryDirectory(prefix="ctr-") as place,
        containerd_alone(Path(place)) as containerd,
    ):
        yield containerd


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
def test_the_tree_is_ours_and_a_lease_keeps_it(
    snapshotter: str, containerd: Daemons, tmp_path: Path
) -> None:
    from snapcore.service.client import leased, open_service

    builder = LayoutBuilder(tmp_path / "layout")
    builder.add_image("latest", [builder.add_layer(layer, "gzip") for layer in LAYERS])
    layout = str(builder.directory)
    with node_on(tmp_path / "plain") as plain:
        wanted = unpacked_digest(plain, layout, "native")
    there = ("--namespace", NAMESPACE, "snapshots", "--snapshotter", snapshotter)
    files = containerd.place / f"root/io.containerd.snapshotter.v1.{snapshotter}"
    with (
        leased(containerd.socket, namespace=NAMESPACE) as lease,
        open_service(containerd.socket, snapshotter, namespace=NAMESPACE, lease=lease) as client,
        node_on(tmp_path / "node", client) as node,
    ):
        # Then its file system is synced with each commit; `native` does not say where it is.
        assert (client.root == str(files)) == (snapshotter == "overlayfs")
        assert unpacked_digest(node, layout, snapshotter) == wanted
        # Deleting anything has containerd collect, and wait for it.
        containerd.ctr("--namespace", NAMESPACE, "leases", "create", "--id", "other")
        containerd.ctr("--namespace", NAMESPACE, "leases", "rm", "--sync", "other")
        assert len(containerd.ctr(*there, "ls").splitlines()) == 1 + len(LAYERS)
        assert unpacked_digest(node, layout, snapshotter) == wanted
    # What only the lease has kept went with it.
    assert len(containerd.ctr(*there, "ls").splitlines()) == 1
    assert list((files / "snapshots").iterdir()) == []
