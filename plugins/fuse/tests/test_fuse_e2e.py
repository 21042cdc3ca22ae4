"""A real image, lazily: pulled from a real registry by the command line, mounted, and run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.cli import spawn
from support.images import (
    changes_tar,
    debian_tar,
    hardlinks_tar,
    once,
    require_tools,
    run_tool,
    session_directory,
    skopeo_copy,
    usrmerge_tar,
)
from support.layout import Layer, LayoutBuilder
from support.nodes import Watched
from support.registry import docker_registry
from support.stargz import estargz_writer, go_estargz

from snapcore.archive import tree_digest
from snapcore.mount import mounts_below
from snapcore.oci.descriptor import OCI_LAYER
from snapcore_fuse.daemon.client import Daemon
from snapcore_fuse.daemon.places import Places
from snapcore_fuse.formats import TOC_DIGEST
from snapcore_fuse.settings import Settings

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("estargz"),
]


@dataclass(frozen=True, slots=True)
class Place:
    """A registry with the image, and a node.

    Attributes:
        name: the image.
        work: for roots and mount points.
    """

    name: str
    work: Path

    def snapcore(self, *arguments: str, root: str = "root") -> object:
        """Run the command line; it must succeed. Return its result."""
        done = spawn("--root", str(self.work / root), "--format", "json", *arguments)
        assert done.code == 0, f"{arguments!r}: {done.err}"
        return json.loads(done.out) if done.out else None

    @contextmanager
    def mounted(self, backend: str) -> Iterator[Path]:
        """Mount the image for the duration of a `with` block."""
        target = self.work / f"mnt-{backend}"
        target.mkdir(exist_ok=True)
        self.snapcore("--snapshotter", backend, "images", "mount", self.name, str(target))
        try:
            yield target
        finally:
            self.snapcore("images", "unmount", str(target))

    def status(self) -> list[dict[str, int | str]]:
        """Return what `images status` says of each layer."""
        found = self.snapcore("--snapshotter", "fuse", "images", "status", self.name)
        assert isinstance(found, list)
        return found

    @property
    def daemon(self) -> Daemon:
        return Daemon(Places(str(self.work / "root/snapshotters/fuse")), Settings())


def image_layout(factory: pytest.TempPathFactory) -> Path:
    """Return an OCI layout: Debian as eStargz, and three plain layers on it."""
    tar, writer = debian_tar(factory), estargz_writer(factory)

    def build(directory: Path) -> None:
        builder = LayoutBuilder(directory)
        copy = directory / "root.tar"
        os.link(tar, copy) if same_device(tar, directory) else copy.write_bytes(tar.read_bytes())
        made = go_estargz(writer, copy)
        copy.unlink()
        (directory / "root.tar.esgz").unlink()
        blob = builder.add_blob(made.blob, f"{OCI_LAYER}+gzip", {TOC_DIGEST: str(made.toc_digest)})
        plain = [builder.add_layer(each()) for each in (changes_tar, usrmerge_tar, hardlinks_tar)]
        builder.add_image("latest", [Layer(blob, made.diff_id), *plain])

    return once(session_directory(factory) / "debian-lazy", build)


def same_device(path: Path, directory: Path) -> bool:
    return os.stat(path).st_dev == os.stat(directory).st_dev


@pytest.fixture
def place(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, census: None
) -> Iterator[Place]:
    """Run a registry that has the image, and indexes of its plain layers."""
    require_tools("skopeo")
    layout = image_layout(tmp_path_factory)
    with docker_registry(tmp_path / "storage", tmp_path) as host:
        made = Place(f"{host}/lazy:latest", tmp_path)
        skopeo_copy(f"oci:{layout}:latest", f"docker://{made.name}")
        made.snapcore("pull", "--plain-http", "--no-unpack", made.name, root="maker")
        made.snapcore("images", "index", "--push", "--plain-http", made.name, root="maker")
        try:
            yield made
        finally:
            made.daemon.stop()
    assert mounts_below(str(tmp_path)) == ()


def test_a_program_runs_from_an_image_of_which_only_indexes_were_pulled(place: Place) -> None:
    place.snapcore("--snapshotter", "fuse", "pull", "--plain-http", place.name)
    pulled = place.status()
    assert pulled[0]["format"] == "estargz"
    size = int(pulled[0]["size"])
    # A layer above was unpacked, and copied up one file that it makes a hard link to.
    before = int(pulled[0]["fetched_bytes"])
    assert before < size / 10
    assert here(place) < size / 10
    with place.mounted("fuse") as root:
        done = subprocess.run(
            ["chroot", str(root), "/bin/hello"], capture_output=True, text=True, check=True
        )
        assert done.stdout == "hello from the image\n"
        assert runc(place, root) == "hello from the image\n"
        fetched = int(place.status()[0]["fetched_bytes"])
        assert before < fetched < size / 5
        # Again, and everything is here.
        subprocess.run(["chroot", str(root), "/bin/hello"], capture_output=True, check=True)
        assert place.status()[0]["fetched_bytes"] == fetched
    kill(place)
    with place.mounted("fuse") as root:
        subprocess.run(["chroot", str(root), "/bin/hello"], capture_output=True, check=True)
        assert place.status()[0]["fetched_bytes"] == 0
    rows = place.snapcore("--snapshotter", "fuse", "snapshots", "ls")
    assert isinstance(rows, list)
    place.snapcore("images", "rm", place.name)
    watched = Watched(place.daemon.ensure().pid)
    place.snapcore("gc")
    assert watched.wait()
    watched.close()
    assert place.snapcore("--snapshotter", "fuse", "snapshots", "ls") == []


def runc(place: Place, root: Path) -> str:
    """Run the program in a container of the mounted image."""
    require_tools("runc")
    bundle = place.work / "bundle"
    bundle.mkdir()
    run_tool("runc", "spec", "--bundle", str(bundle))
    spec = json.loads((bundle / "config.json").read_bytes())
    spec["root"] = {"path": str(root), "readonly": True}
    spec["process"] |= {"terminal": False, "args": ["/bin/hello"]}
    (bundle / "config.json").write_text(json.dumps(spec))
    state = ("--root", str(bundle / "state"))
    return run_tool("runc", *state, "run", "--bundle", str(bundle), f"snapcore-{os.getpid()}")


def kill(place: Place) -> None:
    watched = Watched(place.daemon.ensure().pid)
    os.kill(watched.pid, signal.SIGKILL)
    assert watched.wait()
    watched.close()


def here(place: Place) -> int:
    """Return the bytes on disk of the node, without what it keeps free for removals."""
    root = place.work / "root"
    return sum(
        path.lstat().st_blocks * 512
        for path in root.rglob("*")
        if not {"mnt", "reserve"}.intersection(path.parts)
    )


def test_the_whole_tree_is_that_of_overlay(place: Place) -> None:
    for backend in ("fuse", "overlay"):
        place.snapcore("--snapshotter", backend, "pull", "--plain-http", place.name)
    digests = []
    for backend in ("fuse", "overlay"):
        with place.mounted(backend) as root:
            digests.append(tree_digest(str(root)))
    assert digests[0] == digests[1]
