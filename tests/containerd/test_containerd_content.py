"""Our unpacker takes the layers of an image from a containerd that has it."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import trio
from support.content_service import expect_contents
from support.ctr import Daemons, containerd_alone
from support.images import require_tools
from support.layout import File, LayoutBuilder, opaque, tar_of, whiteout

from snapcore.archive import tree_digest
from snapcore.config import NodeConfig
from snapcore.errors import DigestMismatch, NotFound, Unavailable
from snapcore.node import Node, ServedImages, UnpackChoice
from snapcore.oci import Digest
from snapcore.registry import LayoutSource
from snapcore.service.client import open_content

pytestmark = [pytest.mark.containerd, pytest.mark.needs_root, pytest.mark.timeout(300)]

NAME: Final = "registry.example/library/app:latest"


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> LayoutBuilder:
    builder = LayoutBuilder(tmp_path_factory.mktemp("image") / "layout")
    # More than one message of containerd's.
    large = File("large", bytes(range(256)) * (5 << 12))
    lower = tar_of(File("etc/", mode=0o711, uid=3), File("etc/a", b"a"), File("gone"), large)
    upper = tar_of(whiteout("gone"), opaque("etc"), File("etc/b", b"b", mode=0o4755))
    layers = [builder.add_layer(lower, "none"), builder.add_layer(upper, "zstd")]
    builder.add_image("latest", layers)
    return builder


@pytest.fixture
def containerd(layout: LayoutBuilder) -> Iterator[Daemons]:
    require_tools("containerd", "ctr")
    pytest.importorskip("grpc", reason="not installed: snapcore[service]")
    # A short path: sockets lie in it.
    with (
        tempfile.TemporaryDirectory(prefix="ctr-") as place,
        containerd_alone(Path(place)) as containerd,
    ):
        archive = containerd.place / "image.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(layout.directory, arcname=".")
        base = NAME.partition(":")[0]
        containerd.ctr("images", "import", "--no-unpack", "--base-name", base, str(archive))
        yield containerd


def bring(node: Node, source: str | ServedImages) -> str:
    """Import the image; return the digest of its tree."""

    async def run() -> None:
        choice = UnpackChoice(snapshotters=("native", "overlay"))
        await node.import_(source, name=NAME, choice=choice)

    trio.run(run)
    digests = set()
    for backend in ("native", "overlay"):
        with node.mounted(NAME, snapshotter=backend) as root:
            digests.add(str(tree_digest(root)))
    (digest,) = digests
    return digest


def test_an_image_of_containerds(
    containerd: Daemons, layout: LayoutBuilder, tmp_path: Path
) -> None:
    blobs = {
        f"sha256:{path.name}": path.read_bytes()
        for path in (layout.directory / "blobs/sha256").iterdir()
    }
    with open_content(f"unix://{containerd.socket}") as content:
        expect_contents(content, blobs)
        (image,) = LayoutSource(str(layout.directory)).images()
        assert content.image(NAME).digest == image.descriptor.digest
        found = content.walk(['labels."containerd.io/gc.ref.content.l.0"'])
        assert [str(info.digest) for info in found] == [str(image.descriptor.digest)]
        with Node.open(NodeConfig.at(str(tmp_path / "served"))) as node:
            digest = bring(node, ServedImages(content, [NAME]))
    with open_content(containerd.socket, namespace="other") as other, pytest.raises(NotFound):
        other.image(NAME)
    with Node.open(NodeConfig.at(str(tmp_path / "plain"))) as node:
        assert bring(node, str(layout.directory)) == digest


def test_a_damaged_blob_and_a_dead_daemon(
    containerd: Daemons, layout: LayoutBuilder, tmp_path: Path
) -> None:
    store = containerd.place / "root/io.containerd.content.v1.content/blobs/sha256"
    largest = max(store.iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.chmod(0o600)
    largest.write_bytes(data)
    with (
        open_content(containerd.socket) as content,
        Node.open(NodeConfig.at(str(tmp_path / "root"))) as node,
    ):
        with pytest.raises(DigestMismatch, match=largest.name):
            bring(node, ServedImages(content, [NAME]))
        assert node.images.list() == ()
        assert not node.content.exists(Digest.parse(f"sha256:{largest.name}"))
        containerd.kill("containerd")
        with pytest.raises(Unavailable, match="start `snapcore serve` or containerd"):
            bring(node, ServedImages(content, [NAME]))
