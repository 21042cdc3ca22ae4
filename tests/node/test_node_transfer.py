"""Importing at the node: names, the store's state afterwards, and what is told meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from support.archives import docker_parts, layout_tar
from support.images import tiny_layout
from support.layout import File, LayoutBuilder, tar_of
from support.tars import file, tar

from snapcore.config import NodeConfig
from snapcore.errors import (
    DigestMismatch,
    InvalidArgument,
    NotFound,
    RefusedInput,
    SnapcoreError,
)
from snapcore.node import Node, PullResult, UnpackChoice
from snapcore.oci import Digest
from snapcore.unpack import Event, Events, FetchDone, no_events

LAYER = tar(file(b"etc/one", b"1"))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node.open(NodeConfig.at(str(tmp_path / "root"))) as opened:
        yield opened


def load(
    node: Node, source: Path, name: str = "", events: Events = no_events
) -> tuple[PullResult, ...]:
    async def run() -> tuple[PullResult, ...]:
        choice = UnpackChoice(unpack=False)
        return await node.import_(str(source), name=name, choice=choice, events=events)

    return trio.run(run)


def names(results: tuple[PullResult, ...]) -> list[str]:
    return [result.reference for result in results]


def archive(tmp_path: Path, data: bytes, name: str = "my_app.tar.gz") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def two_images(tmp_path: Path, *tags: str) -> Path:
    builder = LayoutBuilder(tmp_path / "two")
    for number, tag in enumerate(tags):
        layer = builder.add_layer(tar_of(File("etc/number", b"%d" % number)))
        builder.add_image(tag, [layer])
    return builder.directory


def test_an_archive_keeps_its_names(node: Node, tmp_path: Path) -> None:
    parts = replace(docker_parts(LAYER), tags=("app:1", "host.example/b/c:2"))
    results = load(node, archive(tmp_path, parts.tar()))
    assert names(results) == ["docker.io/library/app:1", "host.example/b/c:2"]
    assert [image.name for image in node.images.list()] == names(results)


@pytest.mark.parametrize(
    ("file_name", "base"),
    [("my_app.tar.gz", "my-app"), ("x.tgz", "x"), ("x.v2.tar.zst", "x-v2"), ("-.tar", "image")],
)
def test_an_image_without_a_name_is_called_after_its_file(
    node: Node, tmp_path: Path, file_name: str, base: str
) -> None:
    data = replace(docker_parts(LAYER), tags=None).tar()
    assert names(load(node, archive(tmp_path, data, file_name))) == [f"localhost/{base}:latest"]


def test_the_callers_name_wins(node: Node, tmp_path: Path) -> None:
    data = replace(docker_parts(LAYER), tags=("evil.example/a:1", "evil.example/a:2")).tar()
    path = archive(tmp_path, data)
    assert names(load(node, path, "good/a")) == ["docker.io/good/a:1", "docker.io/good/a:2"]
    assert names(load(node, path, "good/a:x")) == ["docker.io/good/a:x"]


def test_images_of_a_layout_get_their_tags(node: Node, tmp_path: Path) -> None:
    layout = two_images(tmp_path, "1", "host.example/app:2")
    assert names(load(node, layout)) == ["localhost/two:1", "localhost/two:2"]
    with pytest.raises(InvalidArgument, match="holds 2 images"):
        load(node, layout, "a:1")


def test_images_without_any_name_differ_by_digest(node: Node, tmp_path: Path) -> None:
    results = load(node, two_images(tmp_path, "", ""))
    assert names(results) == [
        f"localhost/two:{result.descriptor.digest.hex[:12]}" for result in results
    ]


@pytest.mark.parametrize(
    ("tags", "name", "kind"),
    [
        (("1", "1"), "", InvalidArgument),
        (("not a tag",), "", RefusedInput),
        (("1",), "a@sha256:" + "0" * 64, DigestMismatch),
        (("1",), "UPPER", InvalidArgument),
        ((), "", NotFound),
    ],
    ids=["same-tag", "bad-tag", "other-digest", "bad-name", "nothing"],
)
def test_names_that_do_not_fit(
    node: Node, tmp_path: Path, tags: tuple[str, ...], name: str, kind: type[SnapcoreError]
) -> None:
    with pytest.raises(kind):
        load(node, two_images(tmp_path, *tags), name)
    assert node.images.list() == ()


def test_a_blob_is_told_of_once(node: Node, tmp_path: Path) -> None:
    told: list[Event] = []
    load(node, archive(tmp_path, docker_parts(LAYER).tar()), events=told.append)
    layer = Digest.of(LAYER)
    done = [e for e in told if isinstance(e, FetchDone) and e.descriptor.digest == layer]
    assert [event.cached for event in done] == [False]


def test_an_archive_that_lacks_a_blob(node: Node, tmp_path: Path) -> None:
    builder = tiny_layout(tmp_path / "layout")
    lost = max((builder.directory / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    lost.unlink()
    for source in (builder.directory, archive(tmp_path, layout_tar(builder.directory))):
        with pytest.raises(NotFound, match=lost.name):
            load(node, source)
    assert node.images.list() == ()


def test_a_blob_in_another_size_than_its_descriptor(node: Node, tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path / "layout")
    layer = builder.add_layer(tar_of(File("a")))
    wrong = replace(layer.descriptor, size=layer.descriptor.size + 1)
    manifest = builder.add_manifest(builder.add_config([layer.diff_id]), [wrong])
    builder.tag("latest", manifest)
    for source in (builder.directory, archive(tmp_path, layout_tar(builder.directory))):
        with pytest.raises(DigestMismatch, match=layer.descriptor.digest.hex):
            load(node, source)
    assert node.images.list() == ()


@pytest.mark.parametrize("path", ["/dev/null", "/proc/nothing"])
def test_what_is_no_archive(node: Node, path: str) -> None:
    with pytest.raises((InvalidArgument, NotFound), match=path):
        load(node, Path(path))
