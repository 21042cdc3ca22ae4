"""Content behind a socket, and images whose layers come from there; a fake, for its faults.

`tests/containerd/test_containerd_content.py` does the same with containerd's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from support.content_service import PIECE, FakeContent, Fault, expect_contents, fake_content
from support.layout import File, LayoutBuilder, tar_of, whiteout

from snapcore.archive import tree_digest
from snapcore.config import NodeConfig
from snapcore.errors import DigestMismatch, FailedPrecondition, NotFound, Unavailable
from snapcore.node import Node, ServedImages, UnpackChoice
from snapcore.oci import Digest
from snapcore.registry import LayoutSource
from snapcore.service.client import ContentClient, content, open_content

NAME = "registry.example/library/app:1"
NOISE = bytes(range(256)) * 20
BLOBS = {str(Digest.of(blob)): blob for blob in (b"x", NOISE, NOISE[: 2 * PIECE])}


@pytest.fixture
def layout(tmp_path: Path) -> LayoutBuilder:
    builder = LayoutBuilder(tmp_path / "layout")
    noisy = tar_of(File("etc/", mode=0o700), File("etc/a", NOISE), File("gone", b"x"))
    layers = [builder.add_layer(noisy, "none"), builder.add_layer(tar_of(whiteout("gone")), "gzip")]
    builder.add_image("latest", layers)
    return builder


@pytest.fixture
def fake(layout: LayoutBuilder) -> FakeContent:
    """Hold the image, as containerd would."""
    blobs = {
        f"sha256:{path.name}": path.read_bytes()
        for path in (layout.directory / "blobs/sha256").iterdir()
    }
    (image,) = LayoutSource(str(layout.directory)).images()
    return FakeContent(blobs, {NAME: image.descriptor})


@pytest.fixture
def client(fake: FakeContent, tmp_path: Path) -> Iterator[ContentClient]:
    path = tmp_path / "fake"
    with fake_content(path, fake), open_content(f"unix://{path}", timeout=20) as client:
        yield client


def test_blobs_are_found_listed_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # So that they are read in several calls.
    monkeypatch.setattr(content, "WINDOW", 1500)
    path = tmp_path / "fake"
    with fake_content(path, FakeContent(BLOBS)), open_content(str(path)) as client:
        expect_contents(client, BLOBS)
        assert {info.labels["a"] for info in client.walk()} == {"1"}
    with pytest.raises(FailedPrecondition, match="closed"):
        client.info(Digest.of(b"x"))


def test_what_was_cancelled_before_it_began_does_not_begin(tmp_path: Path) -> None:
    path = tmp_path / "fake"
    with fake_content(path, FakeContent(BLOBS)), open_content(str(path)) as client:
        reading = client.read(Digest.of(NOISE), len(NOISE))
        reading.cancel()
        with pytest.raises(Unavailable):
            list(reading)


def digest_of(node: Node) -> str:
    with node.mounted(NAME, snapshotter="native") as root:
        return str(tree_digest(root))


def bring(node: Node, source: str | ServedImages) -> None:
    choice = UnpackChoice(snapshotters=("native",))

    async def run() -> None:
        await node.import_(source, name=NAME, choice=choice)

    trio.run(run)


@pytest.mark.needs_root
def test_an_image_is_unpacked_from_there(
    client: ContentClient, layout: LayoutBuilder, tmp_path: Path
) -> None:
    digests = []
    for name, source in (
        ("plain", str(layout.directory)),
        ("served", ServedImages(client, [NAME])),
    ):
        with Node.open(NodeConfig.at(str(tmp_path / name))) as node:
            bring(node, source)
            digests.append(digest_of(node))
    assert digests[0] == digests[1]


def flipped(_offset: int, piece: bytes) -> bytes:
    return piece[:-1] + bytes([piece[-1] ^ 1])


def cut(offset: int, piece: bytes) -> bytes | None:
    return piece if offset < PIECE else None


def longer(_offset: int, piece: bytes) -> bytes:
    return piece + b"more" * (len(piece) < PIECE)


class TestFaults:
    """Whatever comes is verified; a failed import leaves no image and no unfinished blob."""

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (flipped, "sha256:"),
            (cut, "ends after 1000 bytes"),
            (longer, "were asked for"),
        ],
    )
    def test_bad_bytes(
        self, fault: Fault, message: str, fake: FakeContent, client: ContentClient, tmp_path: Path
    ) -> None:
        fake.fault = fault
        with Node.open(NodeConfig.at(str(tmp_path / "root"))) as node:
            with pytest.raises(DigestMismatch, match=message):
                bring(node, ServedImages(client, [NAME]))
            self.expect_nothing(node)

    def test_a_layer_that_was_discarded(
        self, fake: FakeContent, client: ContentClient, tmp_path: Path
    ) -> None:
        largest = max(fake.blobs, key=lambda digest: len(fake.blobs[digest]))
        fake.blobs = {key: value for key, value in fake.blobs.items() if key != largest}
        with Node.open(NodeConfig.at(str(tmp_path / "root"))) as node:
            with pytest.raises(NotFound, match=largest):
                bring(node, ServedImages(client, [NAME]))
            self.expect_nothing(node)

    def test_no_such_image(self, client: ContentClient, tmp_path: Path) -> None:
        other = ServedImages(client, ["registry.example/other:1"])
        with (
            Node.open(NodeConfig.at(str(tmp_path / "root"))) as node,
            pytest.raises(NotFound, match="other"),
        ):
            bring(node, other)

    def test_it_dies_in_the_middle(self, fake: FakeContent, tmp_path: Path) -> None:
        path, stopped = tmp_path / "fake", threading.Event()
        with fake_content(path, fake) as server, open_content(str(path), timeout=20) as client:

            def die(offset: int, piece: bytes) -> bytes:
                if offset >= PIECE:
                    server.stop(0)
                    stopped.wait(20)
                return piece

            fake.fault = die
            with Node.open(NodeConfig.at(str(tmp_path / "root"))) as node:
                with pytest.raises(Unavailable, match="fake"):
                    bring(node, ServedImages(client, [NAME]))
                self.expect_nothing(node)
            stopped.set()

    def test_who_waits_for_it_can_be_cancelled(
        self, fake: FakeContent, client: ContentClient, tmp_path: Path
    ) -> None:
        waiting, over = trio.Event(), threading.Event()

        async def run(node: Node) -> None:
            token = trio.lowlevel.current_trio_token()

            def wait(offset: int, piece: bytes) -> bytes:
                if offset >= PIECE:
                    token.run_sync_soon(waiting.set)
                    over.wait(20)
                return piece

            fake.fault = wait
            with trio.fail_after(15):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(node.import_, ServedImages(client, [NAME]))
                    await waiting.wait()
                    nursery.cancel_scope.cancel()

        with Node.open(NodeConfig.at(str(tmp_path / "root"))) as node:
            try:
                trio.run(run, node)
            finally:
                over.set()
            self.expect_nothing(node)

    def expect_nothing(self, node: Node) -> None:
        assert node.images.list() == ()
        assert node.content.usage().ingests == 0
        assert list(node.snapshotter("native").walk()) == []
