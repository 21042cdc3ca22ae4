"""containerd: a private daemon, driven by `ctr`."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.image import Image
from benchmarks.programs import Failed, find, run, stop, undisturbed
from benchmarks.sides.side import IMAGE, REFERENCE, Session, Side
from benchmarks.watch import Watch

_START_SECONDS: Final = 20


@dataclass(slots=True)
class _Containerd:
    socket: str
    snapshotter: str
    manifest: str
    watch: Watch

    def ctr(self, *arguments: str) -> tuple[str, ...]:
        return ("ctr", "--address", self.socket, "--namespace", "bench", *arguments)

    def command(self) -> tuple[str, ...]:
        # 1.6 ignores --snapshotter here; the namespace's default is what it goes by.
        return self.ctr("snapshots", "unpack", self.manifest)

    @contextmanager
    def unpacked(self, target: Path) -> Iterator[Path]:
        images = ("images", "mount", "--snapshotter", self.snapshotter, REFERENCE, str(target))
        run(*self.ctr(*images))
        try:
            yield target
        finally:
            run(*self.ctr("images", "unmount", str(target)))


@contextmanager
def _session(snapshotter: str, place: Path, image: Image) -> Iterator[Session]:
    """Run a private containerd, with the image imported and not unpacked."""
    config, socket = place / "config.toml", str(place / "containerd.sock")
    config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    command = (
        "containerd", "--config", str(config), "--root", str(place / "root"),
        "--state", str(place / "state"), "--address", socket, "--log-level", "warn",
    )  # fmt: skip
    with (place / "log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    session = _Containerd(socket, snapshotter, image.manifest, Watch({daemon.pid}))
    try:
        _wait_until_it_answers(session, daemon, place / "log")
        default = f"containerd.io/defaults/snapshotter={snapshotter}"
        run(*session.ctr("namespaces", "create", "bench", default))
        _import_into(session, image.layout)
        yield session
    finally:
        with undisturbed():
            stop(daemon, signal.SIGTERM)


def _wait_until_it_answers(
    session: _Containerd, daemon: subprocess.Popen[bytes], log: Path
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while subprocess.run(session.ctr("version"), capture_output=True, check=False).returncode:
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"containerd does not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def _import_into(session: _Containerd, layout: str) -> None:
    flags = ("--no-unpack", "--base-name", IMAGE)
    with subprocess.Popen(
        ("tar", "-C", layout, "-cf", "-", "oci-layout", "index.json", "blobs"),
        stdout=subprocess.PIPE,
    ) as archive:
        assert archive.stdout is not None
        run(*session.ctr("images", "import", *flags, "-"), stdin=archive.stdout.fileno())
    if archive.returncode != 0:
        raise Failed("tar failed to read the layout")


def _version() -> str:
    return run("containerd", "--version").split()[2].split("~")[0]


def _inflater() -> str:
    return "unpigz (zlib), a process" if find("unpigz") else "Go compress/gzip"


def _side(name: str, snapshotter: str, *, layers_share: bool) -> Side:
    session = partial(_session, snapshotter)
    programs = ("containerd", "ctr")
    return Side(name, session, _version, _inflater, programs, layers_share=layers_share)


SIDES: Final = (
    _side("containerd", "overlayfs", layers_share=True),
    _side("containerd-native", "native", layers_share=False),
)
