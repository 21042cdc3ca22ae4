"""containerd: a private daemon, driven by `ctr`."""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.image import Image
from benchmarks.programs import Failed, find, run, stop, undisturbed
from benchmarks.sides.side import IMAGE, Session, Side
from benchmarks.watch import Watch
from snapcore.oci import Digest, chain_id

_START_SECONDS: Final = 20
_NAMESPACE: Final = "bench"
PROGRAMS: Final = ("containerd", "ctr")
"""What must be installed."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A private containerd.

    Attributes:
        socket: where it listens.
        snapshotter: the one that is used.
        pid: of its process.
    """

    socket: str
    snapshotter: str
    pid: int

    def ctr(self, *arguments: str) -> tuple[str, ...]:
        """Return the command that asks it for something."""
        return ("ctr", "--address", self.socket, "--namespace", _NAMESPACE, *arguments)

    def unpack(self, manifest: str) -> tuple[str, ...]:
        """Return the command that unpacks the image of a manifest."""
        # 1.6 ignores --snapshotter here; the namespace's default is what it goes by.
        return self.ctr("snapshots", "unpack", manifest)

    def import_layout(self, layout: str, name: str) -> None:
        """Bring a layout's images there, not unpacked, as tags of `name`."""
        flags = ("--no-unpack", "--base-name", name)
        with subprocess.Popen(
            ("tar", "-C", layout, "-cf", "-", "oci-layout", "index.json", "blobs"),
            stdout=subprocess.PIPE,
        ) as archive:
            assert archive.stdout is not None
            run(*self.ctr("images", "import", *flags, "-"), stdin=archive.stdout.fileno())
        if archive.returncode != 0:
            raise Failed("tar failed to read the layout")

    @contextmanager
    def mounted(self, diff_ids: Sequence[str], target: Path) -> Iterator[Path]:
        """Mount the tree of unpacked layers as a container gets it, during a `with` block.

        `ctr images mount` of 1.6 would take overlayfs whatever it is told, and a view, which
        nothing refers to, may be collected at once.
        """
        snapshots = self.ctr("snapshots", "--snapshotter", self.snapshotter)
        parent = str(chain_id([Digest.parse(each) for each in diff_ids]))
        run(*snapshots, "prepare", str(target), parent)
        run(*shlex.split(run(*snapshots, "mounts", str(target), str(target))))
        try:
            yield target
        finally:
            run("umount", str(target))
            run(*snapshots, "rm", str(target))


@contextmanager
def running_daemon(snapshotter: str, place: Path) -> Iterator[Daemon]:
    """Run a private containerd below a directory for the duration of a `with` block."""
    config, socket = place / "config.toml", str(place / "containerd.sock")
    config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    command = (
        "containerd", "--config", str(config), "--root", str(place / "root"),
        "--state", str(place / "state"), "--address", socket, "--log-level", "warn",
    )  # fmt: skip
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    daemon = Daemon(socket, snapshotter, process.pid)
    try:
        _wait_until_it_answers(daemon, process, place / "log")
        default = f"containerd.io/defaults/snapshotter={snapshotter}"
        run(*daemon.ctr("namespaces", "create", _NAMESPACE, default))
        yield daemon
    finally:
        with undisturbed():
            stop(process, signal.SIGTERM)


def _wait_until_it_answers(daemon: Daemon, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while subprocess.run(daemon.ctr("version"), capture_output=True, check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"containerd does not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)


@dataclass(slots=True)
class _Containerd:
    daemon: Daemon
    image: Image
    watch: Watch

    def command(self) -> tuple[str, ...]:
        return self.daemon.unpack(self.image.manifest)

    def unpacked(self, target: Path) -> AbstractContextManager[Path]:
        return self.daemon.mounted([layer.diff_id for layer in self.image.layers], target)


@contextmanager
def _session(snapshotter: str, place: Path, image: Image) -> Iterator[Session]:
    """Run a private containerd, with the image imported and not unpacked."""
    with running_daemon(snapshotter, place) as daemon:
        daemon.import_layout(image.layout, IMAGE)
        yield _Containerd(daemon, image, Watch({daemon.pid}))


def version() -> str:
    """Return the version of the containerd that is installed."""
    return run("containerd", "--version").split()[2].split("~")[0]


def _inflater() -> str:
    return "unpigz (zlib), a process" if find("unpigz") else "Go compress/gzip"


SIDES: Final = (
    Side("containerd", partial(_session, "overlayfs"), version, _inflater, PROGRAMS),
    Side(
        "containerd-native",
        partial(_session, "native"),
        version,
        _inflater,
        PROGRAMS,
        note="directories are copied without their times; so another tree",
        layers_share=False,
        compared=False,
    ),
)
