"""A real containerd pulls through us: from a registry, and with either of both killed meanwhile."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.ctr import PATIENCE_SECONDS, PLUGIN, Daemons, containerd_node
from support.ctr_images import (
    CHOSEN,
    LAYERS,
    run,
    runnable_image,
    snapshots,
    tree_of_image,
    tree_of_snapshot,
)
from support.faults import FakeRegistry
from support.images import skopeo_copy
from support.layout import File, LayoutBuilder, tar_of, whiteout
from support.lazyimages import BIG, Image, estargz_layer, lazy_place
from support.nodes import serve
from support.registry import docker_registry

from snapcore import labels as keys
from snapcore.errors import AlreadyExists
from snapcore.mount import temporary_mount
from snapcore.service.client import open_service
from snapcore.snapshots import Kind
from snapcore_fuse.daemon.client import Daemon
from snapcore_fuse.daemon.places import Places
from snapcore_fuse.settings import Settings

pytestmark = [pytest.mark.containerd, pytest.mark.needs_root, pytest.mark.timeout(300)]


def pull(node: Daemons, reference: str) -> None:
    node.ctr("images", "pull", "--plain-http", *CHOSEN, reference)


def test_a_pulled_image_is_the_one_that_snapcore_pulls(
    node: Daemons, layout: Path, tmp_path: Path
) -> None:
    with docker_registry(tmp_path / "storage", tmp_path) as host:
        reference = f"{host}/lib/image:latest"
        skopeo_copy(f"oci:{layout}:latest", f"docker://{reference}")
        pull(node, reference)
        assert run(node, "one", "/bin/hello", image=reference) == "hello\n"
        config = tmp_path / "own.toml"
        config.write_text(f'[registry]\nplain_http = ["{host}"]\n')
        own = ("--config", str(config), "pull", reference)
        assert tree_of_snapshot(node) == tree_of_image(node, tmp_path, own, reference)
    node.ctr("snapshots", *CHOSEN, "rm", "look")
    node.ctr("images", "rm", "--sync", reference)
    assert snapshots(node) == []


@contextmanager
def pulling(node: Daemons, reference: str) -> Iterator[None]:
    """Have containerd unpack an image that it pulls, of which little is done, during the block.

    `ctr` of 1.6 fetches all layers before it unpacks the first.
    """
    command = ("ctr", "--address", node.socket, "images", "pull", "--plain-http")
    with subprocess.Popen(
        (*command, *CHOSEN, reference), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while "method=Commit" not in node.log("service"):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.005)
            yield
            assert process.wait(PATIENCE_SECONDS) != 0
        finally:
            process.kill()


@pytest.mark.parametrize("node", ["overlay", "native"], indirect=True)
@pytest.mark.parametrize("victim", ["service", "containerd"])
def test_a_death_in_the_middle_of_a_pull(node: Daemons, victim: str, tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path / "layout")
    more = [builder.add_layer(tar_of(File(f"d{n}/"), File(f"d{n}/f", b"x"))) for n in range(40)]
    builder.add_image("latest", [*runnable_image(builder), *more])
    with FakeRegistry() as registry:
        serve(registry, builder)
        reference = f"{registry.host}/lib/image:latest"
        with pulling(node, reference):
            node.kill(victim)
        if victim == "service":
            node.start_service()
        else:
            node.start_containerd()
        assert 0 < len(snapshots(node)) < LAYERS + len(more)
        pull(node, reference)
        said = run(node, "one", "/bin/cat", "/d0/f", "/d39/f", "/data/new", image=reference)
        assert said == "xxnew"
    node.ctr("images", "rm", "--sync", reference)
    # The lease of a pull that died keeps what it had for a day.
    for lease in node.ctr("leases", "ls", "--quiet").split():
        node.ctr("leases", "rm", "--sync", lease)
    assert snapshots(node) == []
    left = node.root / "snapshotters" / node.backend / "snapshots"
    assert list(left.iterdir()) == []


def test_lazy_layers_are_supplied_to_containerd(short: Path, tmp_path: Path) -> None:
    """By the labels that CRI gives, which ctr 1.6 does not."""
    with lazy_place(tmp_path) as place:
        base = (File("etc/"), File("etc/motd", b"hello\n"), File("big", BIG))
        top = (whiteout("etc/motd"), File("large", BIG[::-1]))
        image = Image(place, *(estargz_layer(place.builder, *files) for files in (base, top)))
        settings = (
            f'[registry]\nplain_http = ["{place.registry.host}"]\n'
            "[plugins.fuse]\nmin_layer_size = 1\n"
        )
        with containerd_node(short, "fuse", settings=settings) as node:
            daemon = Daemon(Places(str(node.root / "snapshotters/fuse")), Settings())
            try:
                read_lazily(node, image)
            finally:
                daemon.stop()


def read_lazily(node: Daemons, image: Image) -> None:
    kept = {keys.GC_ROOT: "now"}
    with open_service(node.socket, PLUGIN) as snapshotter:
        parent = ""
        for number, name in enumerate(image.names):
            with pytest.raises(AlreadyExists):
                snapshotter.prepare("extract", parent, labels=image.labels(number) | kept)
            info = snapshotter.stat(name)
            assert (info.kind, info.parent) == (Kind.COMMITTED, parent)
            parent = name
        with temporary_mount(snapshotter.prepare("container", parent, labels=kept)) as root:
            assert Path(root, "big").read_bytes() == BIG
            assert Path(root, "large").read_bytes() == BIG[::-1]
            assert list(Path(root, "etc").iterdir()) == []
        for name in ("container", *reversed(image.names)):
            snapshotter.remove(name)
    node.ctr("leases", "create", "--id", "collect")
    node.ctr("leases", "rm", "--sync", "collect")
    assert snapshots(node) == []
