"""Real images for tests: a Debian root filesystem, cut into layers by us and by other tools.

The root filesystem comes from `mmdebstrap` and the machine's own package sources. It is built
once a week into `build/test-images` (so `make clean` forgets it), under a lock: any number of
test processes may ask. Images are made from it once a test session.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from snapcore.locks import held
from snapcore.snapshots.hookspecs import no_checkpoint
from support.layout import Compression as Compression
from support.layout import File as File
from support.layout import Layer as Layer
from support.layout import LayoutBuilder as LayoutBuilder
from support.layout import opaque as opaque
from support.layout import tar_of as tar_of
from support.layout import whiteout as whiteout

SUITE: Final = "bookworm"
TAG: Final = "latest"
_CACHE: Final = Path(__file__).resolve().parents[2] / "build" / "test-images"

HELLO: Final = File("bin/hello", b"#!/bin/sh\necho hello from the image\n", 0o755)
"""A program of every image of `debian_layers`; `bin` is a symbolic link there."""


def require_tools(*names: str) -> None:
    """Skip the calling test, naming what is missing, unless all these programs are here."""
    search = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    missing = [name for name in names if shutil.which(name, path=search) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (`make setup` as root installs them)")


def run_tool(*command: str) -> str:
    """Run a program and return what it prints; fail with what it says."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command!r} failed: {done.stderr[-2000:]}"
    return done.stdout


def once(directory: Path, build: Callable[[Path], None]) -> Path:
    """Return `directory`, letting `build` fill it if nobody has, in whatever process."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with held(f"{directory}.lock", no_checkpoint):
        if not directory.exists():
            partial = directory.with_name(f"{directory.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            build(partial)
            partial.rename(directory)
    return directory


def session_directory(factory: pytest.TempPathFactory) -> Path:
    """Return the temporary directory that all processes of one test session share."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def debian_tar(factory: pytest.TempPathFactory) -> Path:
    """Return the tar of a minimal Debian root filesystem (≈ 170 MB, ≈ 9,000 entries).

    Skips the calling test if it cannot be built: no root, no mmdebstrap, or no package mirror.
    """
    year, week, _ = dt.datetime.now(tz=dt.UTC).isocalendar()
    wanted = _CACHE / f"{SUITE}-{year}w{week:02}"
    failed = session_directory(factory) / "mmdebstrap-failed"
    if not wanted.exists():
        require_tools("mmdebstrap")
        if os.geteuid() != 0:
            pytest.skip("building the Debian root filesystem needs root")
        if failed.exists():
            pytest.skip(failed.read_text())
    return once(wanted, lambda directory: _bootstrap(directory, failed)) / "root.tar"


def _bootstrap(directory: Path, failed: Path) -> None:
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", SUITE]
    done = subprocess.run(
        [*command, str(directory / "root.tar")], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        # Remembered for the session: trying a dead mirror takes long, and many tests ask.
        failed.write_text(f"mmdebstrap failed (no mirror?): {done.stderr[-500:].strip()}")
        pytest.skip(failed.read_text())


def changes_tar() -> bytes:
    """Return a layer of deletions and replacements over `debian_tar`."""
    return tar_of(
        whiteout("usr/share/doc/bash/copyright"),
        whiteout("usr/share/common-licenses"),
        opaque("usr/share/locale"),
        File("usr/share/locale/", mode=0o755),
        File("usr/share/locale/only.txt", b"the rest is hidden\n"),
        File("etc/motd", b"changed by a layer\n", mtime=1_700_000_000.25),
        File("etc/alternatives/README", link="/etc/motd"),
        File("usr/share/pixmaps/", mode=0o1777, uid=1000, gid=1000),
    )


def usrmerge_tar() -> bytes:
    """Return a layer that writes and deletes through `bin`, `lib` and `sbin`, which are links."""
    return tar_of(
        HELLO,
        File("lib/snapcore-test/data", b"below a link\n", xattrs={"user.note": "kept"}),
        File("sbin/hello-admin", hardlink="bin/hello"),
        whiteout("bin/bashbug"),
    )


def hardlinks_tar() -> bytes:
    """Return a layer of hard links to files of the layers below, and one to its own."""
    return tar_of(
        File("usr/local/bin/same-bash", hardlink="usr/bin/bash"),
        File("usr/local/bin/same-hello", hardlink="usr/bin/hello"),
        File("opt/first", b"one inode\n"),
        File("opt/second", hardlink="opt/first"),
    )


def debian_layers(
    builder: LayoutBuilder, root_tar: Path, compression: Compression = "gzip"
) -> list[Layer]:
    """Add the four layers: Debian itself, changes, usrmerge parents, hard links over layers.

    Args:
        builder: of the layout they go to.
        root_tar: what `debian_tar` returned.
        compression: of the first three; the last is plain tar. Old tools know no zstd.
    """
    with root_tar.open("rb") as base:
        first = builder.add_layer_stream(base, compression)
    return [
        first,
        builder.add_layer(changes_tar(), compression),
        builder.add_layer(usrmerge_tar(), compression),
        builder.add_layer(hardlinks_tar(), "none"),
    ]


def debian_layout(factory: pytest.TempPathFactory) -> Path:
    """Return an OCI layout, made by our builder, with the four-layer image tagged `latest`."""
    root_tar = debian_tar(factory)

    def build(directory: Path) -> None:
        builder = LayoutBuilder(directory)
        builder.add_image(TAG, debian_layers(builder, root_tar))

    return once(session_directory(factory) / "debian-oci", build)


def docker_layout(factory: pytest.TempPathFactory) -> Path:
    """Return the same layers under Docker schema 2 media types, in a layout directory."""
    root_tar = debian_tar(factory)

    def build(directory: Path) -> None:
        builder = LayoutBuilder(directory, docker=True)
        builder.add_image(TAG, debian_layers(builder, root_tar))

    return once(session_directory(factory) / "debian-docker", build)


def umoci_layout(factory: pytest.TempPathFactory) -> Path:
    """Return an OCI layout that `umoci` made: Debian, and a layer of changes as umoci diffs."""
    require_tools("umoci")
    base = debian_tar(factory)

    def build(directory: Path) -> None:
        layout, bundle = directory / "layout", directory / "bundle"
        image = f"{layout}:{TAG}"
        run_tool("umoci", "init", "--layout", str(layout))
        run_tool("umoci", "new", "--image", image)
        run_tool("umoci", "raw", "add-layer", "--image", image, str(base))
        run_tool("umoci", "unpack", "--image", image, str(bundle))
        _change(bundle / "rootfs")
        run_tool("umoci", "repack", "--image", image, str(bundle))
        shutil.rmtree(bundle)

    return once(session_directory(factory) / "debian-umoci", build) / "layout"


def _change(rootfs: Path) -> None:
    (rootfs / "etc/motd").write_text("changed by umoci\n")
    shutil.rmtree(rootfs / "usr/share/common-licenses")
    (rootfs / "usr/share/doc/bash/copyright").unlink()
    program = rootfs / "usr/bin/hello"
    program.write_bytes(HELLO.data)
    program.chmod(0o755)
    os.link(program, rootfs / "usr/local/bin/hello")


def tiny_layout(directory: Path, *, docker: bool = False) -> LayoutBuilder:
    """Make a two-layer image of a few files, tagged `latest`, in milliseconds; nothing runs."""
    builder = LayoutBuilder(directory, docker=docker)
    base = builder.add_layer(
        tar_of(
            File("etc/", mode=0o755),
            File("etc/motd", b"hello\n"),
            File("etc/gone", b"deleted above\n"),
            File("usr/bin/", mode=0o755),
            File("bin", link="usr/bin"),
            File("usr/bin/tool", b"#!/bin/sh\n", mode=0o4755),
        )
    )
    top = builder.add_layer(
        tar_of(whiteout("etc/gone"), File("bin/other", hardlink="usr/bin/tool")),
        "gzip" if docker else "zstd",
    )
    builder.add_image(TAG, [base, top])
    return builder


def skopeo_copy(source: str, destination: str, *flags: str) -> None:
    """Copy an image with skopeo, TLS off on both sides.

    Args:
        source: such as `oci:DIR:latest` or `docker://127.0.0.1:PORT/name:tag`.
        destination: likewise.
        flags: more of skopeo's own, such as `--format=v2s2` or `--all`.
    """
    require_tools("skopeo")
    run_tool(
        "skopeo", "--insecure-policy", "copy", "--quiet",
        "--src-tls-verify=false", "--dest-tls-verify=false", *flags, source, destination,
    )  # fmt: skip
