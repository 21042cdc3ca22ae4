"""Image archives: every kind is read, in one pass and from a pipe, and nothing is believed."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from support.archives import config_bytes, docker_parts, layout_tar
from support.images import tiny_layout
from support.tars import (
    device,
    directory,
    fifo,
    file,
    gzipped,
    hardlink,
    header,
    symlink,
    tar,
    zstandarded,
)

from snapcore.archive import Limits
from snapcore.content import ContentStore
from snapcore.errors import DigestMismatch, RefusedInput, SnapcoreError
from snapcore.locks import held
from snapcore.oci import Descriptor, Digest, Manifest, parse_document
from snapcore.oci.descriptor import DOCKER_LAYER, DOCKER_MANIFEST
from snapcore.registry import ArchiveSource, Listener, NamedImage

ONE = tar(directory(b"etc"), file(b"etc/one", b"1" * 3000))
TWO = tar(file(b"etc/two", b"2"))
MARKER = file(b"oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
INDEX = file(b"index.json", b'{"schemaVersion":2,"manifests":[]}')


class Told:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.started: list[Descriptor] = []
        self.done: list[tuple[Digest, bool]] = []
        self.read = 0
        self.listener = Listener(
            self.started.append,
            lambda blob, offset: None,
            lambda blob, cached: self.done.append((blob.digest, cached)),
        )


@contextmanager
def as_file(tmp_path: Path, data: bytes) -> Iterator[int]:
    path = tmp_path / "archive"
    path.write_bytes(data)
    with path.open("rb") as opened:
        yield opened.fileno()


def read(
    store: ContentStore, descriptor: int, told: Told | None = None, limits: Limits | None = None
) -> tuple[NamedImage, ...]:
    told = told or Told()

    def progress(count: int) -> None:
        told.read = count

    async def run() -> tuple[NamedImage, ...]:
        source = ArchiveSource(descriptor, "the.tar", limits or Limits())
        return await source.read(store, told.listener, progress)

    return trio.run(run)


def read_bytes(store: ContentStore, tmp_path: Path, data: bytes) -> tuple[NamedImage, ...]:
    with as_file(tmp_path, data) as descriptor:
        return read(store, descriptor)


def refused(
    store: ContentStore, tmp_path: Path, data: bytes, kind: type[SnapcoreError] = RefusedInput
) -> str:
    with pytest.raises(kind) as caught:
        read_bytes(store, tmp_path, data)
    assert store.statuses() == ()
    return str(caught.value)


def manifest_of(store: ContentStore, image: NamedImage) -> Manifest:
    data = store.read_blob(image.descriptor, 1 << 20)
    document = parse_document(data, image.descriptor.media_type)
    assert isinstance(document, Manifest)
    return document


@pytest.mark.parametrize("pack", [bytes, gzipped, zstandarded], ids=["tar", "gzip", "zstd"])
def test_a_layout_in_a_tar(
    store: ContentStore, tmp_path: Path, census: None, pack: Callable[[bytes], bytes]
) -> None:
    builder = tiny_layout(tmp_path / "layout")
    told = Told()
    packed = pack(layout_tar(builder.directory))
    with as_file(tmp_path, packed) as descriptor:
        (image,) = read(store, descriptor, told)
    assert (image.name, image.tag) == ("", "latest")
    blobs = sorted(path.name for path in (builder.directory / "blobs/sha256").iterdir())
    assert [info.digest.hex for info in store.walk()] == blobs
    assert sorted(blob.digest.hex for blob in told.started) == blobs
    assert [cached for _, cached in told.done] == [False] * len(blobs)
    assert told.read == len(packed)


def test_what_the_store_has_is_not_copied_again(store: ContentStore, tmp_path: Path) -> None:
    data = layout_tar(tiny_layout(tmp_path / "layout").directory)
    read_bytes(store, tmp_path, data)
    told = Told()
    with as_file(tmp_path, data) as descriptor:
        read(store, descriptor, told)
    assert told.started == []
    assert {cached for _, cached in told.done} == {True}


def test_from_a_pipe(store: ContentStore, tmp_path: Path, census: None) -> None:
    data = gzipped(layout_tar(tiny_layout(tmp_path / "layout").directory))
    reading, writing = os.pipe()

    def feed() -> None:
        with open(writing, "wb", buffering=0) as pipe:
            pipe.writelines(data[at : at + 100] for at in range(0, len(data), 100))

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        (image,) = read(store, reading)
    finally:
        feeder.join()
        os.close(reading)
    assert store.exists(image.descriptor.digest)


def test_a_silent_pipe_can_be_cancelled(store: ContentStore, census: None) -> None:
    reading, writing = os.pipe()
    blob = Digest.of(b"x" * 600)
    os.write(writing, file(f"blobs/sha256/{blob.hex}".encode(), b"x" * 600)[:1000])

    async def run() -> bool:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                source = ArchiveSource(reading, "pipe", Limits())
                nursery.start_soon(source.read, store, Told().listener, lambda _: None)
                while select.select([reading], [], [], 0)[0]:
                    await trio.sleep(0.001)
                scope.cancel()
        return scope.cancelled_caught

    try:
        assert trio.run(run)
    finally:
        os.close(reading)
        os.close(writing)
    assert store.statuses() == ()


def test_a_docker_archive(store: ContentStore, tmp_path: Path) -> None:
    parts = docker_parts(ONE, TWO)
    (image,) = read_bytes(store, tmp_path, parts.tar())
    assert image.name == "docker.io/example/app:1"
    manifest = manifest_of(store, image)
    assert image.descriptor.media_type == DOCKER_MANIFEST
    assert [layer.digest for layer in manifest.layers] == [Digest.of(ONE), Digest.of(TWO)]
    assert {layer.media_type for layer in manifest.layers} == {DOCKER_LAYER}
    config = store.read_blob(manifest.config, 1 << 20)
    assert config == config_bytes(ONE, TWO)
    # What is of no use to the image was not stored.
    assert len(list(store.walk())) == 4


def test_a_docker_archives_manifest_is_always_the_same(store: ContentStore, tmp_path: Path) -> None:
    """Two layers, once in the other order of files and packed; pinned to what containerd makes."""
    parts = docker_parts(ONE, TWO)
    (first,) = read_bytes(store, tmp_path, parts.tar())
    turned = replace(parts, files=tuple(reversed(parts.files)), tags=None)
    (second,) = read_bytes(store, tmp_path, gzipped(turned.tar()))
    assert second.descriptor == first.descriptor
    assert second.name == ""
    text = store.read_blob(first.descriptor, 1 << 20).decode()
    assert text.startswith(f'{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}","config":{{"med')
    assert " " not in text


@pytest.mark.parametrize(
    ("pack", "suffix"), [(gzipped, ".gzip"), (zstandarded, ".zstd")], ids=["gzip", "zstd"]
)
def test_packed_layers_stay_packed(
    store: ContentStore, tmp_path: Path, pack: Callable[[bytes], bytes], suffix: str
) -> None:
    (image,) = read_bytes(store, tmp_path, docker_parts(ONE, packed=[pack(ONE)]).tar())
    (layer,) = manifest_of(store, image).layers
    assert (layer.media_type, layer.digest) == (DOCKER_LAYER + suffix, Digest.of(pack(ONE)))


def test_several_names_and_images(store: ContentStore, tmp_path: Path) -> None:
    parts = replace(docker_parts(ONE), tags=("a/b:1", "host.example/c:2"))
    images = read_bytes(store, tmp_path, parts.tar())
    assert [image.name for image in images] == ["docker.io/a/b:1", "host.example/c:2"]
    assert images[0].descriptor == images[1].descriptor


@pytest.mark.parametrize("first", [True, False], ids=["link-first", "file-first"])
def test_symlinks_between_layers(store: ContentStore, tmp_path: Path, first: bool) -> None:
    parts = docker_parts(ONE, ONE)
    link = symlink(parts.layers[1].encode(), b"../" + parts.layers[0].encode())
    files = [entry for entry in parts.files if not entry.startswith(parts.layers[1].encode())]
    files = [link, *files] if first else [*files, link]
    (image,) = read_bytes(store, tmp_path, replace(parts, files=tuple(files)).tar())
    assert [layer.digest for layer in manifest_of(store, image).layers] == [Digest.of(ONE)] * 2


def test_hard_links_between_layers(store: ContentStore, tmp_path: Path) -> None:
    parts = docker_parts(ONE, ONE)
    files = [entry for entry in parts.files if not entry.startswith(parts.layers[1].encode())]
    files.append(hardlink(parts.layers[1].encode(), parts.layers[0].encode()))
    (image,) = read_bytes(store, tmp_path, replace(parts, files=tuple(files)).tar())
    assert [layer.digest for layer in manifest_of(store, image).layers] == [Digest.of(ONE)] * 2


def test_a_layout_with_a_manifest_json_is_a_layout(store: ContentStore, tmp_path: Path) -> None:
    """As docker writes since 25; the index's whole names count."""
    builder = tiny_layout(tmp_path / "layout", docker=True)
    index = builder.directory / "index.json"
    named = index.read_text().replace(
        '"annotations":{', '"annotations":{"io.containerd.image.name":"docker.io/library/tiny:1",'
    )
    index.write_text(named)
    (builder.directory / "manifest.json").write_text('[{"Config":"blobs/none","Layers":[]}]')
    (image,) = read_bytes(store, tmp_path, layout_tar(builder.directory))
    assert image.name == "docker.io/library/tiny:1"


def test_waits_for_who_downloads_the_same_blob(store: ContentStore, tmp_path: Path) -> None:
    """The blob lock of pulls: the import waits for it, and does not write beside its holder."""
    data = b"x" * 1000
    digest = Digest.of(data)
    archive = tar(file(f"blobs/sha256/{digest.hex}".encode(), data), MARKER, INDEX)
    told = Told()
    finished: list[bool] = []

    def run() -> None:
        with as_file(tmp_path, archive) as descriptor:
            read(store, descriptor, told)
        finished.append(True)

    with held(store.blob_lock(digest).path, lambda: None):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(0.2)
        assert not finished
        assert told.started == []
    thread.join()
    assert store.exists(digest)


DIGEST_NAME = f"blobs/sha256/{'0' * 64}".encode()


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        pytest.param([file(b"../index.json", b"{}")], "'..'", id="dot-dot"),
        pytest.param([file(b"/index.json", b"{}")], "absolute", id="absolute"),
        pytest.param([file(b"a", b"x"), file(b"./a", b"x")], "'a'", id="twice"),
        pytest.param([directory(b"a"), file(b"a", b"x")], "'a'", id="directory-and-file"),
        pytest.param([symlink(b"a", b"b"), symlink(b"a", b"c")], "'a'", id="link-twice"),
        pytest.param([symlink(b"a", b"../b")], "outside", id="link-out"),
        pytest.param([symlink(b"d/a", b"/etc/passwd")], "outside", id="absolute-link"),
        pytest.param([hardlink(b"a", b"b")], "no file", id="hard-link-to-nothing"),
        pytest.param([hardlink(b"a", b"/b")], "absolute", id="absolute-hard-link"),
        pytest.param([device(b"a", 1, 3)], "character", id="device"),
        pytest.param([fifo(b"a")], "fifo", id="fifo"),
        pytest.param([header(b"a", type=b"S")], "sparse", id="sparse"),
        pytest.param([file(b"/".join([b"d"] * 20), b"")], "components", id="deep"),
        pytest.param([MARKER], "neither", id="marker-only"),
        pytest.param([], "neither", id="empty"),
        pytest.param(
            [file(b"oci-layout", b'{"imageLayoutVersion":"2.0.0"}'), INDEX], "2.0.0", id="version"
        ),
        pytest.param(
            [MARKER, file(b"index.json", b'{"schemaVersion":2,"manifests":[],"Manifests":[]}')],
            "duplicate",
            id="duplicate-key",
        ),
        pytest.param(
            [file(b"manifest.json", b'[{"Config":"c","config":"d","Layers":[]}]')],
            "duplicate",
            id="duplicate-docker-key",
        ),
        pytest.param(
            [file(b"manifest.json", b'[{"Config":"c","RepoTags":[],"repotags":["x"]}]')],
            "duplicate",
            id="duplicate-tags",
        ),
        pytest.param([file(b"manifest.json", b"[{}]")], "manifest.json", id="no-config"),
        pytest.param(
            [file(b"manifest.json", b'[{"Config":"c.json","Layers":[]}]')], "c.json", id="lost"
        ),
        pytest.param(
            [
                symlink(b"c.json", b"d.json"),
                symlink(b"d.json", b"c.json"),
                file(b"manifest.json", b'[{"Config":"c.json","Layers":[]}]'),
            ],
            "circles",
            id="circle",
        ),
    ],
)
def test_refused(
    store: ContentStore, tmp_path: Path, census: None, entries: list[bytes], named: str
) -> None:
    message = refused(store, tmp_path, tar(*entries))
    assert named in message
    assert "'the.tar'" in message


def test_no_tar_at_all(store: ContentStore, tmp_path: Path) -> None:
    assert "'the.tar'" in refused(store, tmp_path, b"garbage" * 1000)
    assert "'the.tar'" in refused(store, tmp_path, b"")
    cut = layout_tar(tiny_layout(tmp_path / "layout").directory)[:2000]
    assert "cut off" in refused(store, tmp_path, cut)
    assert "cut off" in refused(store, tmp_path, gzipped(cut)[:-10])


def test_another_blob_than_its_name_says(store: ContentStore, tmp_path: Path) -> None:
    data = tar(file(DIGEST_NAME, b"something"), MARKER, INDEX)
    assert "0" * 64 in refused(store, tmp_path, data, DigestMismatch)
    assert list(store.walk()) == []


def test_a_known_blob_in_another_size(store: ContentStore, tmp_path: Path) -> None:
    name = f"blobs/sha256/{Digest.of(b'data').hex}".encode()
    read_bytes(store, tmp_path, tar(file(name, b"data"), MARKER, INDEX))
    refused(store, tmp_path, tar(file(name, b"data and more"), MARKER, INDEX), DigestMismatch)


def test_a_config_under_another_digest(store: ContentStore, tmp_path: Path) -> None:
    parts = docker_parts(ONE)
    wrong = f"{'ab' * 32}.json"
    files = (*parts.files, file(wrong.encode(), config_bytes(ONE)))
    data = replace(parts, files=files, config=wrong).tar()
    assert wrong in refused(store, tmp_path, data, DigestMismatch)


def test_a_layer_that_the_config_does_not_name(store: ContentStore, tmp_path: Path) -> None:
    parts = docker_parts(ONE, packed=[TWO])
    assert parts.layers[0] in refused(store, tmp_path, parts.tar(), DigestMismatch)
    parts = replace(docker_parts(ONE), layers=())
    assert "0 layers" in refused(store, tmp_path, parts.tar())
    parts = replace(docker_parts(ONE), layers=("gone.tar",))
    assert "gone.tar" in refused(store, tmp_path, parts.tar())


def test_a_bad_name(store: ContentStore, tmp_path: Path) -> None:
    data = replace(docker_parts(ONE), tags=("UPPER CASE",)).tar()
    assert "UPPER CASE" in refused(store, tmp_path, data)


def test_budgets(store: ContentStore, tmp_path: Path) -> None:
    data = docker_parts(ONE).tar()
    with as_file(tmp_path, data) as descriptor, pytest.raises(RefusedInput, match="larger than"):
        read(store, descriptor, limits=Limits(size=4096))
    with as_file(tmp_path, data) as descriptor, pytest.raises(RefusedInput, match="more than 3"):
        read(store, descriptor, limits=Limits(entries=3))
    large = tar(file(b"index.json", b" " * (4 << 20) + b"{}"), MARKER)
    assert "index.json" in refused(store, tmp_path, large)
    many = tar(*(file(b"%d.json" % n, b"{" + b" " * (3 << 20)) for n in range(22)))
    assert "all together" in refused(store, tmp_path, many)
