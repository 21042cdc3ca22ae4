"""The calls of containerd 2.x's unpacker, in its order, over a socket.

Which calls those are: containerd core/unpack/unpacker.go, and core/metadata/snapshot.go for the
keys and for what is asked when a backend says that it has a layer. Nothing of 2.x runs here: its
calls are made again, and its applier is a few lines that write what that one writes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import grpc
import pytest
from support.layout import File, whiteout
from support.lazyimages import BIG, Image, LazyPlace, estargz_layer, lazy_place
from support.service import Client, mounted, refused, served

from snapcore import labels as keys
from snapcore.conformance import MemoryState, open_memory
from snapcore.mount import mounts_below, temporary_mount
from snapcore.oci import Digest, chain_ids
from snapcore.service.proto import snapshots_pb2
from snapcore.snapshots import open_snapshotter

CODE: Final = grpc.StatusCode
MountRows: TypeAlias = Sequence[tuple[str, str, list[str]]]


@dataclass(frozen=True)
class Change:
    """What a layer does to those below."""

    files: Mapping[str, bytes]
    deleted: Sequence[str] = ()
    emptied: Sequence[str] = ()


CHANGES: Final = (
    Change({"etc/a": b"one", "etc/b": b"two", "var/old": b"old"}),
    Change({"etc/c": b"three"}, deleted=["etc/a"]),
    Change({"var/new": b"new"}, emptied=["var"]),
)
TREE: Final = {"etc/b": b"two", "etc/c": b"three", "var/new": b"new"}
DIFF_IDS: Final = tuple(Digest.of(repr(change).encode()) for change in CHANGES)
CHAIN: Final = tuple(str(each) for each in chain_ids(DIFF_IDS))


def backend_name(number: int) -> str:
    """Return how the metadata layer calls a committed layer in the backend."""
    return f"k8s.io/{number + 20}/{CHAIN[number]}"


def extract_key(number: int) -> str:
    """Return the key that a layer is unpacked under."""
    return f"k8s.io/{number + 1}/extract-123456789-aB3_ {CHAIN[number]}"


def labels_of(number: int) -> dict[str, str]:
    """Return the labels that Prepare and Commit get alike."""
    told = {keys.SNAPSHOT_REF: CHAIN[number], keys.SNAPSHOT_DIFF_ID: str(DIFF_IDS[number])}
    if number:
        told[keys.SNAPSHOT_PARENT_CHAIN_ID] = CHAIN[number - 1]
    return told


def write(root: str, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def apply(rows: MountRows, change: Change) -> None:
    """Apply a layer as the applier does that mounts the snapshot."""
    with temporary_mount(mounted(rows)) as root:
        for name in change.emptied:
            for path in Path(root, name).iterdir():
                path.unlink()
        for name in change.deleted:
            Path(root, name).unlink()
        write(root, change.files)


def apply_apart(rows: MountRows, change: Change) -> None:
    """Apply a layer as the one does that knows nothing below: with overlayfs' own marks.

    The unpacker makes an overlay mount without lower directories of the one bind mount that it
    gets, and so the applier writes into its source.
    """
    ((kind, source, options),) = rows
    assert (kind, "rw" in options) == ("bind", True)
    write(source, change.files)
    for name in change.deleted:
        os.mknod(Path(source, name), stat.S_IFCHR, os.makedev(0, 0))
    for name in change.emptied:
        os.setxattr(Path(source, name), "trusted.overlay.opaque", b"y")


def read(rows: MountRows) -> dict[str, bytes]:
    with temporary_mount(mounted(rows)) as root:
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in Path(root).rglob("*")
            if path.is_file() and path.name != "stargz.index.json"
        }


def unpack_in_order(client: Client) -> None:
    """Each layer is prepared on the one below, applied and committed before the next."""
    for number, change in enumerate(CHANGES):
        parent = backend_name(number - 1) if number else ""
        apply(client.prepare(extract_key(number), parent, labels_of(number)), change)
        client.commit(backend_name(number), extract_key(number), labels_of(number))


def unpack_apart(client: Client) -> None:
    """All are prepared first, applied in any order, and committed from the lowest on."""
    numbers = range(len(CHANGES))
    rows = [client.prepare(extract_key(number), "", labels_of(number)) for number in numbers]
    for number in reversed(numbers):
        apply_apart(rows[number], CHANGES[number])
    for number in numbers:
        parent = backend_name(number - 1) if number else ""
        client.commit(backend_name(number), extract_key(number), labels_of(number), parent)


@contextmanager
def serving(backend: str, place: Path) -> Iterator[Client]:
    with open_snapshotter(backend, str(place / backend)) as opened, served(place, opened) as client:
        yield client


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Client]:
    with serving("overlay", tmp_path) as client:
        yield client


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("backend", "unpack"),
    [
        pytest.param("overlay", unpack_in_order, id="overlay"),
        pytest.param("overlay", unpack_apart, id="overlay-apart"),
        pytest.param("native", unpack_in_order, id="native"),
    ],
)
def test_the_tree_is_the_same_in_either_order(
    tmp_path: Path, backend: str, unpack: Callable[[Client], None]
) -> None:
    with serving(backend, tmp_path) as client:
        unpack(client)
        infos = [client.stat(backend_name(number)) for number in range(len(CHANGES))]
        assert [info.parent for info in infos] == ["", backend_name(0), backend_name(1)]
        assert [dict(info.labels) for info in infos] == [labels_of(n) for n in range(len(CHANGES))]
        assert all(info.kind == snapshots_pb2.COMMITTED for info in infos)
        assert len(client.names()) == len(CHANGES)
        assert read(client.prepare("k8s.io/40/container", backend_name(2))) == TREE
        assert all(client.usage(backend_name(number))[0] for number in range(len(CHANGES)))


@pytest.mark.needs_root
def test_a_layer_that_fails_takes_those_above_with_it(overlay: Client) -> None:
    """What is committed stays; the keys of all others are given up, and can be taken anew."""
    for number in range(len(CHANGES)):
        apply_apart(overlay.prepare(extract_key(number), "", labels_of(number)), CHANGES[number])
    overlay.commit(backend_name(0), extract_key(0), labels_of(0))
    for number in (1, 2):
        overlay.remove(extract_key(number))
    assert overlay.names() == [backend_name(0)]
    for number in (1, 2):
        apply_apart(overlay.prepare(extract_key(number), "", labels_of(number)), CHANGES[number])
        parent = backend_name(number - 1)
        overlay.commit(backend_name(number), extract_key(number), labels_of(number), parent)
    assert read(overlay.prepare("k8s.io/40/container", backend_name(2))) == TREE


@pytest.mark.needs_root
def test_whoever_commits_second_removes_its_key(overlay: Client) -> None:
    unpack_apart(overlay)
    overlay.prepare("k8s.io/9/again", "", labels_of(1))
    with refused(CODE.ALREADY_EXISTS):
        overlay.commit(backend_name(1), "k8s.io/9/again", labels_of(1), backend_name(0))
    overlay.remove("k8s.io/9/again")
    assert read(overlay.prepare("k8s.io/40/container", backend_name(2))) == TREE


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("prepared_on", "parent", "code"),
    [
        pytest.param("", "nobody", CODE.NOT_FOUND, id="missing"),
        pytest.param("", "active", CODE.FAILED_PRECONDITION, id="not-committed"),
        pytest.param("base", "other", CODE.INVALID_ARGUMENT, id="has-another"),
    ],
)
def test_a_parent_that_will_not_do(
    overlay: Client, prepared_on: str, parent: str, code: grpc.StatusCode
) -> None:
    for name in ("base", "other"):
        overlay.prepare("extract")
        overlay.commit(name, "extract")
    overlay.prepare("active")
    overlay.prepare("key", prepared_on)
    with refused(code, repr(parent)):
        overlay.commit("name", "key", parent=parent)
    overlay.commit("name", "key", parent="base")
    assert overlay.stat("name").parent == "base"


@pytest.mark.needs_root
def test_a_copy_is_not_rebased_and_stays_removable(tmp_path: Path) -> None:
    with serving("native", tmp_path) as client:
        client.prepare("extract")
        client.commit(backend_name(0), "extract")
        client.prepare(extract_key(1), "", labels_of(1))
        with refused(CODE.UNIMPLEMENTED, "native snapshots are copies"):
            client.commit(backend_name(1), extract_key(1), labels_of(1), backend_name(0))
        client.remove(extract_key(1))
        # The parent that it has is no rebase.
        client.prepare(extract_key(1), backend_name(0), labels_of(1))
        client.commit(backend_name(1), extract_key(1), labels_of(1), backend_name(0))


def adopted(client: Client, target: str, parent: str) -> str:
    """Ask as the metadata layer does whose backend has the layer; return the backend's name."""
    (page,) = client.pages(f'labels."{keys.SNAPSHOT_REF}"=={target},parent=="{parent}"')
    (info,) = page
    assert (info.kind, info.labels[keys.SNAPSHOT_REF]) == (snapshots_pb2.COMMITTED, target)
    return info.name


def test_a_layer_that_is_there_is_adopted_by_its_label(tmp_path: Path) -> None:
    state = MemoryState(remote=frozenset(CHAIN))
    (tmp_path / "memory").mkdir()
    with served(tmp_path, open_memory(state, str(tmp_path / "memory"))) as client:
        parent = ""
        for number, name in enumerate(CHAIN):
            with refused(CODE.ALREADY_EXISTS):
                client.prepare(extract_key(number), parent, labels_of(number))
            parent = adopted(client, name, parent)
        assert len(client.names()) == len(CHAIN)


def test_a_staged_layer_is_committed_and_not_applied(tmp_path: Path) -> None:
    """2.4: where the last mount is read-only, the content is in place."""
    state = MemoryState(staged=frozenset(CHAIN[1:]))
    (tmp_path / "memory").mkdir()
    with served(tmp_path, open_memory(state, str(tmp_path / "memory"))) as client:
        for number in range(len(CHAIN)):
            rows = client.prepare(extract_key(number), "", labels_of(number))
            assert ("ro" in rows[-1][2]) is (number > 0)
            assert client.mounts(extract_key(number)) == rows
        for number in range(len(CHAIN)):
            parent = backend_name(number - 1) if number else ""
            client.commit(backend_name(number), extract_key(number), labels_of(number), parent)
        assert client.stat(backend_name(2)).parent == backend_name(1)


class TestLazy:
    """The same of the lazy backend, whose layers are in a registry."""

    BASE = (File("etc/", mode=0o751), File("etc/motd", b"hello\n"), File("big", BIG))
    TOP = (whiteout("etc/motd"), File("etc/more", b"more\n"), File("large", BIG[::-1]))
    BOTH: Final = {"big": BIG, "etc/more": b"more\n", "large": BIG[::-1]}

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[LazyPlace]:
        pytest.importorskip("pyfuse3", reason="not installed: pyfuse3, of snapcore-fuse")
        with lazy_place(tmp_path) as place:
            yield place
        assert mounts_below(str(tmp_path)) == ()

    @pytest.fixture
    def image(self, place: LazyPlace) -> Image:
        layers = [estargz_layer(place.builder, *files) for files in (self.BASE, self.TOP)]
        return Image(place, *layers)

    @pytest.fixture
    def client(self, place: LazyPlace) -> Iterator[Client]:
        with (
            open_snapshotter("fuse", place.places.root, options=place.options) as fuse,
            served(place.directory, fuse) as client,
        ):
            yield client

    @pytest.mark.needs_root
    def test_layers_in_order_are_supplied(self, client: Client, image: Image) -> None:
        parent = ""
        for number, name in enumerate(image.names):
            with refused(CODE.ALREADY_EXISTS):
                client.prepare(f"k8s.io/{number}/extract", parent, image.labels(number))
            parent = adopted(client, name, parent)
        assert read(client.prepare("k8s.io/40/container", parent)) == self.BOTH

    @pytest.mark.needs_root
    def test_layers_apart_are_staged(self, client: Client, image: Image) -> None:
        rows = client.prepare("k8s.io/2/extract", "", image.labels(1))
        assert "ro" in rows[-1][2]
        with refused(CODE.ALREADY_EXISTS):
            client.prepare("k8s.io/1/extract", "", image.labels(0))
        parent = adopted(client, image.names[0], "")
        client.commit("k8s.io/22/top", "k8s.io/2/extract", image.labels(1), parent)
        assert read(client.prepare("k8s.io/40/container", "k8s.io/22/top")) == self.BOTH
