"""The lazy backend by the contract's verbs: the remote protocol, in both of its forms."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.images import File, whiteout
from support.lazyimages import BIG, Image, LazyPlace, estargz_layer, lazy_place

from snapcore import labels as keys
from snapcore.errors import AlreadyExists, FailedPrecondition, NotFound
from snapcore.mount import mounts_below, temporary_mount
from snapcore.oci import Digest
from snapcore.snapshots import (
    Capability,
    Kind,
    Labels,
    Snapshotter,
    no_checkpoint,
    open_snapshotter,
)
from snapcore_fuse.daemon.messages import Build
from snapcore_fuse.lazy import layer_of

pytestmark = pytest.mark.needs_root

BASE = (File("etc/", mode=0o751, uid=7), File("etc/motd", b"hello\n"), File("big", BIG))
BOTH = {"big": BIG, "etc/more": b"more\n", "large": BIG[::-1]}
TOP = (whiteout("etc/motd"), File("etc/more", b"more\n"), File("large", BIG[::-1]))


@pytest.fixture
def place(tmp_path: Path, census: None) -> Iterator[LazyPlace]:
    with lazy_place(tmp_path) as made:
        yield made
    assert mounts_below(str(tmp_path)) == ()


@pytest.fixture
def fuse(place: LazyPlace) -> Iterator[Snapshotter]:
    with open_snapshotter("fuse", place.places.root, options=place.options) as opened:
        yield opened


@pytest.fixture
def image(place: LazyPlace) -> Image:
    return Image(place, estargz_layer(place.builder, *BASE), estargz_layer(place.builder, *TOP))


def supply(fuse: Snapshotter, image: Image, number: int) -> None:
    parent = image.names[number - 1] if number else ""
    with pytest.raises(AlreadyExists):
        fuse.prepare("extract", parent, labels=image.labels(number))


def read_view(fuse: Snapshotter, name: str) -> dict[str, bytes]:
    with temporary_mount(fuse.view("view", name)) as root:
        found = {
            os.path.relpath(os.path.join(top, file), root): Path(top, file).read_bytes()
            for top, _, files in os.walk(root)
            for file in files
            # The table of contents is a file of the tar, like any other.
            if file != "stargz.index.json"
        }
    fuse.remove("view")
    return found


def test_a_supplied_layer_is_committed_with_its_labels_and_parent(
    fuse: Snapshotter, image: Image, place: LazyPlace
) -> None:
    assert {Capability.REMOTE, Capability.REBASE} <= fuse.capabilities
    supply(fuse, image, 0)
    supply(fuse, image, 1)
    info = fuse.stat(image.names[1])
    assert (info.kind, info.parent) == (Kind.COMMITTED, image.names[0])
    assert info.labels == image.labels(1)
    with pytest.raises(NotFound):
        fuse.stat("extract")
    assert read_view(fuse, image.names[1]) == BOTH
    (mount,) = fuse.view("one", image.names[0])
    assert (mount.type, mount.read_only) == ("bind", True)
    # What removal frees is what is here of it: its index, and no file.
    for name in image.names:
        assert 0 < fuse.usage(name).size < 100_000
    fuse.remove("one")


def test_what_is_there_already_is_not_made_again(fuse: Snapshotter, image: Image) -> None:
    supply(fuse, image, 0)
    asked = len(fuse_requests(image))
    supply(fuse, image, 0)
    assert len(list(fuse.walk())) == 1
    assert read_view(fuse, image.names[0])["big"] == BIG
    assert len(fuse_requests(image)) >= asked


def fuse_requests(image: Image) -> list[object]:
    return list(image._place.registry.requests(str(image.layers[0].descriptor.digest)))


def test_a_taken_key_and_a_missing_parent_are_refused_first(
    fuse: Snapshotter, image: Image
) -> None:
    with pytest.raises(NotFound, match="nobody"):
        fuse.prepare("extract", "nobody", labels=image.labels(0))
    fuse.prepare("extract")
    with pytest.raises(AlreadyExists, match="extract"):
        fuse.prepare("extract", labels=image.labels(0))
    assert [info.name for info in fuse.walk()] == ["extract"]
    assert not fuse_requests(image)


def test_indexes_of_the_layers_above_are_fetched_ahead(
    fuse: Snapshotter, image: Image, place: LazyPlace
) -> None:
    supply(fuse, image, 0)
    supply(fuse, image, 1)
    tails = [
        request
        for layer in image.layers
        for request in place.registry.requests(f"/blobs/{layer.descriptor.digest}")
    ]
    # Each index once, whether it was asked for or thought of before.
    assert len(tails) == 2


def test_the_staged_form_is_committed_onto_its_parent(fuse: Snapshotter, image: Image) -> None:
    supply(fuse, image, 0)
    mounts = fuse.prepare("extract", labels=image.labels(1))
    assert mounts[-1].read_only
    assert fuse.mounts("extract") == mounts
    with pytest.raises(FailedPrecondition):
        fuse.target("extract")
    info = fuse.commit(image.names[1], "extract", labels=image.labels(1), parent=image.names[0])
    assert info.parent == image.names[0]
    assert read_view(fuse, image.names[1]) == BOTH


def test_a_staged_layer_is_committed_though_its_daemon_died(
    fuse: Snapshotter, image: Image, place: LazyPlace
) -> None:
    supply(fuse, image, 0)
    assert fuse.prepare("extract", labels=image.labels(1))[-1].read_only
    place.kill_daemon()
    place.registry.__exit__()
    fuse.commit(image.names[1], "extract", labels=image.labels(1), parent=image.names[0])
    assert fuse.status(image.names[1]).lazy


def test_a_layer_that_needs_its_parents_files_is_not_staged(
    fuse: Snapshotter, place: LazyPlace
) -> None:
    image = Image(
        place,
        estargz_layer(place.builder, *BASE),
        estargz_layer(place.builder, File("again", hardlink="etc/motd"), File("big", BIG)),
    )
    supply(fuse, image, 0)
    mounts = fuse.prepare("extract", labels=image.labels(1))
    assert not mounts[-1].read_only
    assert "without its parent: layer entry b'again'" in fuse.status("extract").reason
    fuse.remove("extract")
    # With its parent known, it can be lazy.
    supply(fuse, image, 1)
    assert read_view(fuse, image.names[1])["again"] == b"hello\n"


def test_without_its_daemon_a_layer_is_still_known_to_be_lazy(
    fuse: Snapshotter, image: Image, place: LazyPlace
) -> None:
    supply(fuse, image, 0)
    assert fuse.status(image.names[0]).size == image.layers[0].descriptor.size
    place.daemon.stop()
    status = fuse.status(image.names[0])
    assert (status.lazy, status.complete) == (True, False)
    assert "daemon" in status.error
    # Whatever needs it, has it started.
    assert read_view(fuse, image.names[0])["etc/motd"] == b"hello\n"
    assert not fuse.status(image.names[0]).error


def test_a_daemon_that_has_promised_a_layer_is_not_dismissed(
    fuse: Snapshotter, image: Image, place: LazyPlace
) -> None:
    layer = layer_of(image.labels(0))
    assert layer is not None
    directory = place.places.snapshot(7)
    os.mkdir(directory)
    daemon = place.daemon
    pid = daemon.ensure().pid
    assert not daemon.resolve(directory, layer, no_checkpoint).reason
    daemon.dismiss()
    assert not daemon.build(Build(7, directory, (), "overlay"), no_checkpoint).reason
    assert daemon.ensure().pid == pid
    daemon.remove(7)


def test_a_staged_snapshot_can_be_removed(fuse: Snapshotter, image: Image) -> None:
    fuse.prepare("extract", labels=image.labels(1))
    fuse.remove("extract")
    fuse.cleanup()
    assert list(fuse.walk()) == []


def test_an_opaque_root_hides_the_lazy_layers_below(fuse: Snapshotter, place: LazyPlace) -> None:
    image = Image(
        place,
        estargz_layer(place.builder, *BASE),
        estargz_layer(place.builder, File(".wh..wh..opq"), File("only", BIG)),
    )
    supply(fuse, image, 0)
    supply(fuse, image, 1)
    assert read_view(fuse, image.names[1]) == {"only": BIG}


@pytest.mark.parametrize("missing", [keys.CRI_IMAGE_REF, keys.CRI_MANIFEST_DIGEST])
def test_without_a_source_a_layer_is_unpacked(
    fuse: Snapshotter, image: Image, missing: str
) -> None:
    told: Labels = {key: value for key, value in image.labels(0).items() if key != missing}
    assert not fuse.prepare("extract", labels=told)[-1].read_only
    assert not fuse.status("extract").lazy
    assert not image._place.daemon.wanted()


@pytest.mark.parametrize(
    "spoiled",
    [
        {keys.CRI_MANIFEST_DIGEST: str(Digest.of(b"another"))},
        {keys.CRI_MANIFEST_DIGEST: "nonsense"},
        {keys.CRI_LAYER_DIGEST: str(Digest.of(b"another"))},
        {keys.SNAPSHOT_DIFF_ID: "nonsense"},
        {keys.CRI_IMAGE_REF: "NOT A REFERENCE"},
    ],
)
def test_labels_that_lead_nowhere_mean_unpacking(
    fuse: Snapshotter, image: Image, spoiled: dict[str, str]
) -> None:
    mounts = fuse.prepare("extract", labels={**image.labels(0), **spoiled})
    assert not mounts[-1].read_only
    assert fuse.status("extract").reason
