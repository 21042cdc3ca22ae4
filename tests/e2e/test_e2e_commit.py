"""A changed snapshot goes out as an image: to a registry, to other backends, to other tools."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cli import Outcome, call
from support.images import require_tools, run_tool, skopeo_copy
from support.layout import File, LayoutBuilder, tar_of, whiteout
from support.registry import docker_registry

from snapcore.archive import tree_digest

pytestmark = [pytest.mark.needs_root, pytest.mark.xdist_group("e2e-registry")]

Snapcore = Callable[..., Outcome]
BACKENDS = ("native", "overlay")


def at(place: Path, backend: str) -> Snapcore:
    """Return what calls `snapcore` on a root of its own."""

    def run(*arguments: str) -> Outcome:
        where = ("--root", str(place / "root"), "--state", str(place / "state"))
        done = call(*where, "--snapshotter", backend, "--progress", "none", *arguments)
        assert done.code == 0, done.err
        return done

    return run


def layout(directory: Path) -> Path:
    builder = LayoutBuilder(directory)
    layers = [
        builder.add_layer(
            tar_of(
                File("./", mode=0o755),
                File("etc/", mode=0o755),
                File("etc/motd", b"hello\n"),
                File("etc/gone", b"deleted above\n"),
                File("srv/", mode=0o755),
                File("srv/data/", mode=0o755),
                File("srv/data/old", b"old" * 1000),
                File("usr/", mode=0o755),
                File("usr/tool", b"#!/bin/sh\n", mode=0o4755, uid=7, gid=8),
                File("usr/alias", hardlink="usr/tool"),
            )
        ),
        builder.add_layer(tar_of(File("./", mode=0o755), whiteout("etc/gone"))),
    ]
    builder.add_image("latest", layers)
    return builder.directory


def change(root: Path) -> None:
    """Do what containers do, and what layers find hard."""
    (root / "etc/motd").write_bytes(b"changed\n")
    os.utime(root / "etc/motd", ns=(0, 1_600_000_000_123_456_789))
    shutil.rmtree(root / "srv/data")
    (root / "srv/data").mkdir(mode=0o2775)
    (root / "srv/data/new").write_bytes(b"new")
    (root / "usr/tool").unlink()
    os.mkfifo(root / "srv/fifo")
    os.link(root / "srv/data/new", root / "srv/again")
    os.symlink("/etc/motd", root / "srv/link")
    os.setxattr(root / "srv", "user.note", b"kept")
    (root / ("long" * 60)).write_bytes(b"")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_committed_image_is_the_same_everywhere(backend: str, tmp_path: Path) -> None:
    require_tools("skopeo", "umoci")
    here = at(tmp_path / "here", backend)
    here("images", "import", str(layout(tmp_path / "layout")), "--name", "localhost/base")
    place = tmp_path / "mnt"
    place.mkdir()
    mounted = here("--format", "json", "images", "mount", "localhost/base", str(place), "--rw")
    change(place)
    wanted = tree_digest(str(place))
    here("images", "commit", str(mounted.record()["key"]), "localhost/new", "--change", "USER 7")
    here("images", "unmount", str(place), "--rm")

    def check(run: Snapcore, name: str) -> None:
        run("images", "mount", name, str(place))
        assert tree_digest(str(place)) == wanted
        run("images", "unmount", str(place))

    check(here, "localhost/new")
    with docker_registry(tmp_path / "storage", tmp_path) as host:
        name = f"{host}/team/new:1"
        here("push", "--plain-http", "localhost/new", name)
        for other in BACKENDS:
            there = at(tmp_path / f"there-{other}", other)
            there("pull", "--plain-http", name)
            check(there, name)
        skopeo_copy(f"docker://{name}", f"oci:{tmp_path / 'copied'}:new")
        skopeo_copy(f"docker://{name}", f"dir:{tmp_path / 'schema2'}", "--format=v2s2")
    here("images", "export", "localhost/new", f"{tmp_path / 'exported'}/")
    for directory, tag in (("copied", "new"), ("exported", "latest")):
        image = f"{tmp_path / directory}:{tag}"
        shown = json.loads(run_tool("skopeo", "inspect", "--config", f"oci:{image}"))
        assert shown["config"]["User"] == "7"
        assert len(shown["history"]) == len(shown["rootfs"]["diff_ids"]) == 3
        bundle = tmp_path / f"bundle-{directory}"
        run_tool("umoci", "unpack", "--image", image, str(bundle))
        assert tree_digest(str(bundle / "rootfs")) == wanted
