"""Blobs that were discarded, lost or damaged come back from where their image came from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from support.faults import FakeRegistry, status
from support.images import tiny_layout
from support.nodes import serve

from snapcore.config import Discard, NodeConfig
from snapcore.content import Quarantined
from snapcore.errors import NotFound, SnapcoreError
from snapcore.node import DamagedBlob, Node, PullOptions, UnpackChoice
from snapcore.oci import Descriptor, Digest, Platform, is_layer, is_manifest
from snapcore.snapshots import no_checkpoint

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("census")]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[FakeRegistry]:
    with FakeRegistry() as opened:
        serve(opened, tiny_layout(tmp_path / "layout"))
        yield opened


@pytest.fixture
def node(tmp_path: Path, registry: FakeRegistry) -> Iterator[Node]:
    config = NodeConfig.at(str(tmp_path / "root"))
    reach = replace(config.registry, plain_http=(registry.host,))
    with Node.open(replace(config, snapshotters=("native",), registry=reach)) as opened:
        yield opened


def pull(node: Node, registry: FakeRegistry, *, discard: Discard = "never") -> str:
    options = PullOptions(UnpackChoice(discard=discard))
    result = trio.run(lambda: node.pull(f"{registry.host}/tiny:latest", options))
    return result.reference


def blobs(node: Node, name: str) -> tuple[Descriptor, ...]:
    return node.images.check(name, Platform.local()).required


def repair(node: Node) -> list[DamagedBlob]:
    async def run() -> list[DamagedBlob]:
        found = await trio.to_thread.run_sync(node.recovery.verify, (), no_checkpoint)
        return [await node.recovery.repair(blob) for blob in found]

    return trio.run(run)


def damage(node: Node, digest: Digest) -> None:
    path = Path(node.content.path(digest))
    path.chmod(0o600)
    path.write_bytes(b"?" + path.read_bytes()[1:])


def test_what_was_discarded_is_absent_on_purpose_and_comes_back(
    node: Node, registry: FakeRegistry, tmp_path: Path
) -> None:
    name = pull(node, registry, discard="after-image")
    node.garbage.collect()
    check = node.images.check(name, Platform.local())
    layers = {blob.digest for blob in check.required if is_layer(blob.media_type)}
    assert {blob.digest for blob in check.discarded} == layers
    assert check.missing == check.discarded
    assert check.status == "discarded"
    trio.run(lambda: node.export([name], str(tmp_path / "out.tar")))
    assert (tmp_path / "out.tar").exists()
    # It was fetched for the export alone.
    node.garbage.collect()
    assert node.images.check(name, Platform.local()).status == "discarded"
    result = trio.run(lambda: node.unpack(name, UnpackChoice(snapshotters=("overlay",))))
    assert result.unpacked == 1
    assert node.images.check(name, Platform.local()).snapshots == {"native": True, "overlay": True}


def test_what_nobody_recorded_is_named(node: Node, tmp_path: Path) -> None:
    tiny_layout(tmp_path / "files")
    choice = UnpackChoice(discard="after-image")
    (result,) = trio.run(lambda: node.import_(str(tmp_path / "files"), choice=choice))
    node.garbage.collect()
    with pytest.raises(NotFound, match="no registry is recorded"):
        trio.run(lambda: node.export([result.reference], str(tmp_path / "out.tar")))
    overlay = UnpackChoice(snapshotters=("overlay",))
    with pytest.raises(NotFound, match="no registry is recorded"):
        trio.run(lambda: node.unpack(result.reference, overlay))


def test_a_registry_that_is_gone_is_named(
    node: Node, registry: FakeRegistry, tmp_path: Path
) -> None:
    name = pull(node, registry, discard="after-image")
    node.garbage.collect()
    layer = next(blob for blob in blobs(node, name) if is_layer(blob.media_type))
    registry.spoil(f"blobs/{layer.digest}", *[status(404)] * 5)
    with pytest.raises(SnapcoreError, match="cannot be fetched again"):
        trio.run(lambda: node.export([name], str(tmp_path / "out.tar")))
    assert not (tmp_path / "out.tar").exists()


@pytest.mark.parametrize("kind", ["manifest", "config", "layer"])
def test_a_damaged_blob_is_found_and_mended(node: Node, registry: FakeRegistry, kind: str) -> None:
    name = pull(node, registry)
    kinds = {
        "manifest": [b for b in blobs(node, name) if is_manifest(b.media_type)],
        "layer": [b for b in blobs(node, name) if is_layer(b.media_type)],
        "config": [b for b in blobs(node, name) if "config" in b.media_type],
    }
    digest = kinds[kind][0].digest
    labels = node.content.info(digest).labels
    assert node.recovery.verify((), no_checkpoint) == ()
    damage(node, digest)
    (found,) = node.recovery.verify((), no_checkpoint)
    assert (found.digest, found.path) == (digest, node.content.path(digest))
    (mended,) = repair(node)
    assert (mended.repaired, mended.trouble) == (True, "")
    assert node.recovery.verify([digest], no_checkpoint) == ()
    assert node.content.info(digest).labels == labels
    assert node.garbage.collect().removed == ()
    assert list((Path(node.content.root) / "quarantine").iterdir()) == []


def test_what_cannot_be_fetched_is_set_aside(
    node: Node, registry: FakeRegistry, tmp_path: Path
) -> None:
    name = pull(node, registry)
    layer = next(blob for blob in blobs(node, name) if is_layer(blob.media_type))
    damage(node, layer.digest)
    registry.spoil(f"blobs/{layer.digest}", status(404))
    (found,) = repair(node)
    assert not found.repaired
    assert str(layer.digest) in found.trouble
    assert Path(found.path).exists()
    assert not node.content.exists(layer.digest)
    trio.run(lambda: node.export([name], str(tmp_path / "out.tar")))
    assert node.images.check(name, Platform.local()).complete
    with pytest.raises(NotFound):
        node.recovery.verify([Digest.of(b"none")], no_checkpoint)


def test_what_is_set_aside_is_told_and_goes_after_a_month(
    node: Node, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = pull(node, registry)
    layer = next(blob for blob in blobs(node, name) if is_layer(blob.media_type))
    damage(node, layer.digest)
    registry.spoil(f"blobs/{layer.digest}", status(404))
    (found,) = repair(node)
    broken_off = Path(found.path).with_name("a-download")
    broken_off.mkdir()
    (broken_off / "data").write_bytes(b"x" * 10)
    held = node.content.quarantined()
    assert (held.count, held.size) == (2, layer.size + 10)
    report = node.garbage.collect()
    assert "quarantined" not in report.orphans
    assert Path(found.path).exists()
    now = time.time()
    monkeypatch.setattr("snapcore.content.quarantine.time.time", lambda: now + 31 * 24 * 3600)
    assert node.garbage.collect().orphans["quarantined"] == 2
    assert node.content.quarantined() == Quarantined()
