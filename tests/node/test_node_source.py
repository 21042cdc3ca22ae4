"""What a pull tells lazy backends: labels that say where each layer comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import call
from support.faults import FakeRegistry
from support.images import tiny_layout
from support.nodes import serve

from snapcore import labels
from snapcore.config import NodeConfig
from snapcore.node import Node, PullOptions
from snapcore.oci import Platform
from snapcore.snapshots import SnapshotStatus

pytestmark = [pytest.mark.needs_root, pytest.mark.anyio]


def open_node(tmp_path: Path) -> Node:
    return Node.open(
        NodeConfig(
            root=str(tmp_path / "root"), state=str(tmp_path / "state"), snapshotters=("native",)
        )
    )


async def test_snapshots_are_labelled_with_their_source(tmp_path: Path, census: None) -> None:
    builder = tiny_layout(tmp_path / "layout")
    with FakeRegistry() as registry, open_node(tmp_path) as node:
        serve(registry, builder)
        name = f"{registry.host}/repo:latest"
        done = await node.pull(name, PullOptions(plain_http=True))
        (manifest,) = done.manifests
        snapshotter = node.snapshotter()
        found = {report.chain_id: report for report in node.images.status(name, Platform.local())}
        layers = [str(report.layer.digest) for report in found.values()]
        for number, (chain_id, report) in enumerate(found.items()):
            told = snapshotter.stat(chain_id).labels
            assert told[labels.CRI_IMAGE_REF] == name
            assert told[labels.CRI_MANIFEST_DIGEST] == str(manifest.manifest.digest)
            assert told[labels.CRI_LAYER_DIGEST] == layers[number]
            assert told[labels.CRI_IMAGE_LAYERS] == ",".join(layers[number:])
            assert told[labels.SOURCE_PLAIN_HTTP] == "true"
            assert labels.SOURCE_INSECURE not in told
            # What is unpacked is all here.
            assert report.status == SnapshotStatus(lazy=False, complete=True)


async def test_what_comes_from_a_file_has_no_source(tmp_path: Path, census: None) -> None:
    tiny_layout(tmp_path / "layout")
    with open_node(tmp_path) as node:
        (done,) = await node.import_(str(tmp_path / "layout"))
        told = node.snapshotter().stat(done.chain_id).labels
        assert not [key for key in told if "/cri." in key or "/source." in key]


def test_the_status_of_an_unpacked_image_says_so(tmp_path: Path) -> None:
    tiny_layout(tmp_path / "layout")
    node = ("--root", str(tmp_path / "root"), "--snapshotter", "native")
    layout = str(tmp_path / "layout")
    imported = call(*node, "images", "import", layout, "--name", "localhost/tiny")
    assert imported.code == 0, imported.err
    records = call(*node, "--format", "json", "images", "status", "localhost/tiny").records()
    assert [(r["snapshotter"], r["status"], r["fetched_bytes"]) for r in records] == [
        ("native", "unpacked", None)
    ] * 2
    shown = call(*node, "images", "status", "localhost/tiny").out.splitlines()
    assert shown[0].split()[:4] == ["SNAPSHOTTER", "LAYER", "SIZE", "STATUS"]
    assert len(shown) == 3


def test_the_status_of_what_nobody_unpacked_is_absent(tmp_path: Path) -> None:
    tiny_layout(tmp_path / "layout")
    node = ("--root", str(tmp_path / "root"), "--snapshotter", "native")
    layout = str(tmp_path / "layout")
    assert (
        call(*node, "images", "import", layout, "--name", "localhost/tiny", "--no-unpack").code == 0
    )
    records = call(*node, "--format", "json", "images", "status", "localhost/tiny").records()
    assert [record["status"] for record in records] == ["absent", "absent"]
