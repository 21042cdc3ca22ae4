"""An image that containers can be run of, under a containerd of one's own."""

from __future__ import annotations

import shlex
import tarfile
from pathlib import Path
from typing import Final

from examples.demo.image import programs_layer
from snapcore.linux import umount
from support.cli import spawn
from support.ctr import PLUGIN, Daemons
from support.images import run_tool
from support.layout import File, Layer, LayoutBuilder, opaque, tar_of, whiteout

NAME: Final = "test/image"
REFERENCE: Final = f"{NAME}:latest"
CHOSEN: Final = ("--snapshotter", PLUGIN)
LAYERS: Final = 4


def runnable_image(builder: LayoutBuilder) -> list[Layer]:
    """Put an image of programs, changes of them and a script into a layout, as `latest`."""
    # With all their directories, and not by way of the link `bin`: containerd gives times of its
    # own to directories that a layer only implies, and makes one where there is a link below.
    programs = programs_layer(("sh", "cat", "sleep", "find", "rm"))
    old = tar_of(File("data/"), File("data/old", b"old"), File("gone", b"x"))
    new = tar_of(File("data/"), opaque("data"), File("data/new", b"new"), whiteout("gone"))
    hello = File("usr/bin/hello", b"#!/bin/sh\necho hello\n", mode=0o755)
    layers = [
        builder.add_layer(programs, "gzip"),
        builder.add_layer(old),
        builder.add_layer(new),
        builder.add_layer(tar_of(File("usr/"), File("usr/bin/"), hello), "zstd"),
    ]
    builder.add_image("latest", layers)
    return layers


def bring(node: Daemons, layout: Path) -> None:
    """Import a layout's image into containerd."""
    archive = archive_of(layout, node.place)
    node.ctr("images", "import", *CHOSEN, "--base-name", NAME, archive)


def archive_of(layout: Path, directory: Path) -> str:
    """Write a layout into an archive in a directory, and return its path."""
    archive = directory / "image.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(layout, arcname=".")
    return str(archive)


def run(node: Daemons, name: str, *command: str, image: str = REFERENCE) -> str:
    """Run a command in a container and return what it prints."""
    return node.ctr("run", "--rm", *CHOSEN, image, name, *command)


def start(node: Daemons, name: str, image: str = REFERENCE) -> None:
    """Start a container that sleeps."""
    node.ctr("run", "-d", *CHOSEN, image, name, "/bin/sleep", "1000")


def execute(node: Daemons, name: str, script: str) -> str:
    """Run a script in a running container and return what it prints."""
    return node.ctr("tasks", "exec", "--exec-id", f"e-{name}", name, "/bin/sh", "-c", script)


def end(node: Daemons, name: str, *flags: str) -> None:
    """End a container and remove it; its snapshot too, but with `--keep-snapshot`."""
    node.ctr("tasks", "rm", "--force", name)
    node.ctr("containers", "rm", *flags, name)


def snapshots(node: Daemons) -> list[str]:
    """Return the names of the backend's snapshots."""
    return node.snapcore("snapshots", "ls", "--quiet").splitlines()


def top_of(node: Daemons) -> str:
    """Return the snapshot that no other stands on."""
    rows = [line.split() for line in node.ctr("snapshots", *CHOSEN, "ls").splitlines()[1:]]
    parents = {parent for _, parent, *kind in rows if kind}
    (top,) = {name for name, *_ in rows} - parents
    return top


def tree_of_snapshot(node: Daemons) -> list[str]:
    """Return the tree of the image that containerd has, as a container gets it."""
    node.ctr("snapshots", *CHOSEN, "prepare", "look", top_of(node))
    target = node.place / "mnt"
    target.mkdir()
    run_tool(*shlex.split(node.ctr("snapshots", *CHOSEN, "mounts", str(target), "look")))
    try:
        return _tree(node, target)
    finally:
        umount(str(target))


def tree_of_image(node: Daemons, place: Path, verb: tuple[str, ...], image: str) -> list[str]:
    """Have `snapcore` itself bring an image, into another root, and return its tree."""
    own = ("--root", str(place / "own"), "--snapshotter", node.backend)
    target = place / "own-mount"
    target.mkdir()
    for each in (verb, ("images", "mount", image, str(target))):
        done = spawn(*own, *each)
        assert done.code == 0, done.err
    try:
        return _tree(node, target)
    finally:
        spawn(*own, "images", "unmount", str(target))


def _tree(node: Daemons, directory: Path) -> list[str]:
    """Return what the digest of a tree is made of, but the root's time: containerd sets none."""
    lines = node.snapcore("digest", "--list", str(directory)).splitlines()
    (root,) = (line for line in lines if line.startswith(". directory "))
    return [line.rpartition(" ")[0] if line == root else line for line in lines]
