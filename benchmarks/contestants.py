"""Who is measured. Each works below a directory of its own on the fresh filesystem."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from benchmarks.programs import run
from benchmarks.watch import Watch

IMAGE: Final = "bench.example/image"
REFERENCE: Final = f"{IMAGE}:latest"
_START_SECONDS: Final = 20

# Commands of snapcore, as data: {root}, {layout}, {reference} and {target} are filled in.
SNAPCORE: Final = ("snapcore", "--root", "{root}")
SNAPCORE_IMPORT: Final = (
    *SNAPCORE, "images", "import", "{layout}", "--name", "{reference}", "--no-unpack",
)  # fmt: skip
SNAPCORE_UNPACK: Final = (*SNAPCORE, "images", "unpack", "{reference}")
SNAPCORE_MOUNT: Final = (*SNAPCORE, "images", "mount", "{reference}", "{target}")
# More arguments of the unpacking, by side; the first snapshotter is the one that is mounted.
SNAPCORE_SIDES: Final[Mapping[str, tuple[str, ...]]] = {
    "snapcore": ("--snapshotter", "overlay"),
    "snapcore-1": ("--snapshotter", "overlay", "--max-concurrent-unpacks", "1"),
    # Copies each layer below whole: `--image full` needs 40 GiB of disk for it.
    "snapcore-native": ("--snapshotter", "native"),
    "snapcore-both": ("--snapshotter", "overlay", "--snapshotter", "native"),
}
SNAPCORE_UNMOUNT: Final = (*SNAPCORE, "images", "unmount", "{target}")


class Session(Protocol):
    """An implementation with the image in its content store, ready to unpack."""

    watch: Watch
    """The processes that were there before the clock started."""

    def command(self) -> tuple[str, ...]:
        """Return the command whose run is the unpacking."""

    def mounted(self, target: Path) -> AbstractContextManager[None]:
        """Mount the unpacked image read-only for the duration of a `with` block."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One implementation.

    Attributes:
        name: for the table.
        version: as it says of itself.
        session: imports a layout into a fresh place: (place, layout, manifest digest).
    """

    name: str
    version: str
    session: SessionMaker


class SessionMaker(Protocol):
    """Makes a session below `place`, and ends it: no process and no mount stays."""

    def __call__(
        self, place: Path, layout: Path, manifest: str, /
    ) -> AbstractContextManager[Session]:
        """Return the session, to be entered."""


@dataclass(slots=True)
class _Containerd:
    socket: str
    manifest: str
    watch: Watch

    def ctr(self, *arguments: str) -> tuple[str, ...]:
        return ("ctr", "--address", self.socket, "--namespace", "bench", *arguments)

    def command(self) -> tuple[str, ...]:
        return self.ctr("snapshots", "--snapshotter", "overlayfs", "unpack", self.manifest)

    @contextmanager
    def mounted(self, target: Path) -> Iterator[None]:
        images = ("images", "mount", "--snapshotter", "overlayfs", REFERENCE, str(target))
        run(*self.ctr(*images))
        try:
            yield
        finally:
            run(*self.ctr("images", "unmount", str(target)))


@contextmanager
def containerd_session(place: Path, layout: Path, manifest: str) -> Iterator[Session]:
    """Run a private containerd, with the image imported and not unpacked."""
    config, socket = place / "config.toml", str(place / "containerd.sock")
    config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    command = (
        "containerd", "--config", str(config), "--root", str(place / "root"),
        "--state", str(place / "state"), "--address", socket, "--log-level", "warn",
    )  # fmt: skip
    with (place / "log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    session = _Containerd(socket, manifest, Watch({daemon.pid}))
    try:
        _wait_until_it_answers(session, daemon, place / "log")
        _import_into(session, layout)
        yield session
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(_START_SECONDS)


def _wait_until_it_answers(
    session: _Containerd, daemon: subprocess.Popen[bytes], log: Path
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while subprocess.run(session.ctr("version"), capture_output=True, check=False).returncode:
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"containerd does not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def _import_into(session: _Containerd, layout: Path) -> None:
    flags = ("--no-unpack", "--base-name", IMAGE)
    with subprocess.Popen(
        ("tar", "-C", str(layout), "-cf", "-", "oci-layout", "index.json", "blobs"),
        stdout=subprocess.PIPE,
    ) as archive:
        assert archive.stdout is not None
        run(*session.ctr("images", "import", *flags, "-"), stdin=archive.stdout.fileno())
    if archive.returncode != 0:
        raise SystemExit("tar failed to read the layout")


@dataclass(slots=True)
class _Snapcore:
    values: Mapping[str, str]
    flags: tuple[str, ...]
    watch: Watch

    def command(self) -> tuple[str, ...]:
        return self.fill((*SNAPCORE_UNPACK, *self.flags))

    def fill(self, template: tuple[str, ...], target: str = "") -> tuple[str, ...]:
        program = os.path.join(os.path.dirname(sys.executable), template[0])
        arguments = (part.format(**self.values, target=target) for part in template[1:])
        return (program, *arguments)

    @contextmanager
    def mounted(self, target: Path) -> Iterator[None]:
        run(*self.fill((*SNAPCORE_MOUNT, *self.flags[:2]), str(target)))
        try:
            yield
        finally:
            run(*self.fill(SNAPCORE_UNMOUNT, str(target)))


@contextmanager
def snapcore_session(
    flags: tuple[str, ...], place: Path, layout: Path, _manifest: str
) -> Iterator[Session]:
    """Import the image into a snapcore root, not unpacked; there is no daemon."""
    values = {"root": str(place / "root"), "layout": str(layout), "reference": REFERENCE}
    session = _Snapcore(values, flags, Watch())
    run(*session.fill(SNAPCORE_IMPORT))
    yield session


def contestants() -> tuple[Contestant, ...]:
    """Return all sides.

    Raises:
        SystemExit: a program is missing.
    """
    for program in ("containerd", "ctr", "unpigz"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed; `make setup` as root installs it")
    return (
        Contestant("containerd", run("containerd", "--version").split()[2], containerd_session),
        *(
            Contestant(side, _snapcore_version(), partial(snapcore_session, flags))
            for side, flags in SNAPCORE_SIDES.items()
        ),
    )


def _snapcore_version() -> str:
    from importlib.metadata import version

    return version("snapcore")
