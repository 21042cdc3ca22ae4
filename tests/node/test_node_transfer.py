"""Importing at the node: names, the store's state afterwards, and what is told meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from support.archives import docker_parts, layout_tar
from support.images import skopeo_copy, tiny_layout
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
from snapcore.labels import GC_REF_CONTENT
from snapcore.node import Node, PullResult, UnpackChoice
from snapcore.oci import Digest, Platform
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


def two_in_one(*tags: tuple[str, ...]) -> bytes:
    """Return a docker archive of one image for each group of names."""
    parts = [
        replace(docker_parts(tar(file(b"etc/number", b"%d" % number))), tags=names)
        for number, names in enumerate(tags)
    ]
    layers = [
        tuple(f"{number}/{name}" for name in part.layers) for number, part in enumerate(parts)
    ]
    items = [
        {"Config": part.config, "RepoTags": list(part.tags or ()), "Layers": list(names)}
        for part, names in zip(parts, layers, strict=True)
    ]
    files = [
        entry
        for number, part in enumerate(parts)
        for entry in (
            file(f"{number}/{part.layers[0]}".encode(), tar(file(b"etc/number", b"%d" % number))),
            part.files[-1],
        )
    ]
    return tar(*files, file(b"manifest.json", json.dumps(items).encode()))


def test_several_images_of_a_docker_archive(node: Node, tmp_path: Path) -> None:
    """Each gets all its names; a repository of ours takes their tags only, if they differ."""
    path = archive(tmp_path, two_in_one(("app:1", "app:stable"), ("app:2",)))
    results = load(node, path)
    assert names(results) == [f"docker.io/library/app:{tag}" for tag in ("1", "stable", "2")]
    digests = [result.descriptor.digest for result in results]
    assert digests[0] == digests[1] != digests[2]
    assert names(load(node, path, "own/app")) == [
        f"docker.io/own/app:{tag}" for tag in ("1", "stable", "2")
    ]
    with pytest.raises(InvalidArgument, match=r"'own/app:x' has a tag.*2 images"):
        load(node, path, "own/app:x")
    for image in node.images.list():
        assert node.images.check(image.name, Platform.local()).complete


def test_images_of_a_docker_archive_that_differ_by_repository_only(
    node: Node, tmp_path: Path
) -> None:
    path = archive(tmp_path, two_in_one(("one:1",), ("two:1",)))
    with pytest.raises(InvalidArgument, match=r"'docker\.io/own/app:1'.*--name"):
        load(node, path, "own/app")
    assert node.images.list() == ()
    assert names(load(node, path)) == [f"docker.io/library/{name}:1" for name in ("one", "two")]


def several_platforms(tmp_path: Path) -> tuple[Path, Digest, dict[str, Digest]]:
    """Return an archive that skopeo made of an index, its digest, and its manifests'."""
    builder = LayoutBuilder(tmp_path / "several")
    manifests = {}
    for platform in (Platform.local(), Platform.parse("linux/riscv64")):
        layer = builder.add_layer(tar_of(File("etc/platform", str(platform).encode())))
        manifests[str(platform)] = builder.add_image(None, [layer], platform=platform)
    index = builder.add_index("latest", list(manifests.values()))
    path = tmp_path / "several.tar"
    skopeo_copy(f"oci:{builder.directory}:latest", f"oci-archive:{path}:1.2", "--all")
    return path, index.digest, {name: each.digest for name, each in manifests.items()}


@pytest.mark.parametrize(
    ("choice", "unpacked"),
    [
        (UnpackChoice(), [str(Platform.local())]),
        (UnpackChoice(platform="linux/riscv64"), ["linux/riscv64"]),
        (UnpackChoice(all_platforms=True), [str(Platform.local())]),
        (UnpackChoice(unpack_all=True), [str(Platform.local()), "linux/riscv64"]),
    ],
    ids=["this host's", "another", "all", "all unpacked"],
)
def test_platforms_of_an_archive(
    node: Node, tmp_path: Path, choice: UnpackChoice, unpacked: list[str]
) -> None:
    path, index, manifests = several_platforms(tmp_path)

    async def run() -> tuple[PullResult, ...]:
        return await node.import_(str(path), choice=replace(choice, snapshotters=("native",)))

    (result,) = trio.run(run)
    assert (result.reference, result.descriptor.digest) == ("localhost/several:1.2", index)
    done = [each.manifest.digest for each in result.manifests if not each.reason]
    assert sorted(done) == sorted(manifests[name] for name in unpacked)
    for name in unpacked:
        assert node.images.check(result.reference, Platform.parse(name)).snapshots["native"]
    # What is not asked for is in the store all the same, but for the collector.
    labels = node.content.info(index).labels
    kept = {value for key, value in labels.items() if key.startswith(GC_REF_CONTENT)}
    everything = choice.all_platforms or choice.unpack_all
    assert kept == {str(manifests[n]) for n in (manifests if everything else unpacked)}


def test_a_platform_that_an_archive_lacks(node: Node, tmp_path: Path) -> None:
    path, _, _ = several_platforms(tmp_path)

    async def run() -> None:
        await node.import_(str(path), choice=UnpackChoice(platform="plan9/mips", unpack=False))

    with pytest.raises(NotFound, match="plan9/mips"):
        trio.run(run)
    assert node.images.list() == ()


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
