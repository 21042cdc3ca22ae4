"""Who pulls the image and starts the program: containerd eagerly, snapcore lazily or eagerly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from benchmarks.programs import Failed, run, stop, undisturbed

_START_SECONDS: Final = 20
_NUMPY: Final = (
    "import sys; sys.path.insert(0, '/opt/science'); import numpy; print(numpy.__version__)"
)
PROGRAMS: Final = {
    "full": ("/usr/bin/python3", "-c", _NUMPY),
    "quick": ("/usr/bin/perl", "-e", "print $]"),
}
"""By image: prints a number and ends."""


class Starter(Protocol):
    """Brings an image here and starts programs of it."""

    def pull(self, reference: str) -> None:
        """Do what must be done before a program can start."""

    def start(self, reference: str, program: Sequence[str]) -> str:
        """Run a program in a container to its end and return what it prints."""

    def facts(self, reference: str) -> dict[str, object]:
        """Return what the side itself tells of the image; may be empty."""


@dataclass(frozen=True, slots=True)
class Side:
    """One contestant.

    Attributes:
        name: what it is called in tables.
        tag: which variant of the image it pulls.
        snapshotter: `containerd`, or the name of one of snapcore's.
    """

    name: str
    tag: str
    snapshotter: str

    @contextmanager
    def opened(self, place: Path) -> Iterator[Starter]:
        """Start it in an empty directory for the duration of a `with` block."""
        if self.snapshotter == "containerd":
            with _containerd(place) as starter:
                yield starter
        else:
            with _snapcore(place, self.snapshotter) as starter:
                yield starter


SIDES: Final = (
    Side("eager containerd", "gzip", "containerd"),
    Side("eager snapcore", "gzip", "overlay"),
    Side("lazy eStargz", "estargz", "fuse"),
    Side("lazy gzip", "gzip", "fuse"),
)


@dataclass(frozen=True, slots=True)
class _Containerd:
    socket: str

    def _ctr(self, *arguments: str) -> str:
        return run("ctr", "--address", self.socket, "--namespace", "lazy", *arguments)

    def pull(self, reference: str) -> None:
        self._ctr("images", "pull", "--plain-http", reference)

    def start(self, reference: str, program: Sequence[str]) -> str:
        return self._ctr("run", "--rm", reference, f"c{time.monotonic_ns()}", *program)

    def facts(self, reference: str) -> dict[str, object]:
        del reference
        return {}


@contextmanager
def _containerd(place: Path) -> Iterator[Starter]:
    config, socket = place / "config.toml", str(place / "containerd.sock")
    config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    command = (
        "containerd", "--config", str(config), "--root", str(place / "root"),
        "--state", str(place / "state"), "--address", socket, "--log-level", "warn",
    )  # fmt: skip
    with (place / "log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while subprocess.run(
            ("ctr", "--address", socket, "version"), capture_output=True, check=False
        ).returncode:
            if time.monotonic() > deadline:
                raise Failed("containerd does not start")
            time.sleep(0.1)
        yield _Containerd(socket)
    finally:
        with undisturbed():
            stop(daemon, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class _Snapcore:
    place: Path
    snapshotter: str

    def run(self, *arguments: str) -> str:
        program = os.path.join(os.path.dirname(sys.executable), "snapcore")
        flags = ("--root", str(self.place / "root"), "--snapshotter", self.snapshotter)
        return run(program, *flags, *arguments)

    def pull(self, reference: str) -> None:
        self.run("pull", "--quiet", "--plain-http", reference)

    def start(self, reference: str, program: Sequence[str]) -> str:
        bundle = self.place / "bundle"
        rootfs = bundle / "rootfs"
        rootfs.mkdir(parents=True, exist_ok=True)
        self.run("images", "mount", reference, str(rootfs))
        try:
            (bundle / "config.json").write_text(json.dumps(_spec(bundle, program)))
            name = f"lazy-{time.monotonic_ns()}"
            state = str(self.place / "runc")
            return run("runc", "--root", state, "run", "--bundle", str(bundle), name)
        finally:
            self.run("images", "unmount", str(rootfs))

    def facts(self, reference: str) -> dict[str, object]:
        if self.snapshotter != "fuse":
            return {}
        return {"status": json.loads(self.run("--format", "json", "images", "status", reference))}


@contextmanager
def _snapcore(place: Path, snapshotter: str) -> Iterator[Starter]:
    starter = _Snapcore(place, snapshotter)
    try:
        yield starter
    finally:
        with undisturbed():
            names = starter.run("images", "ls", "--quiet").split()
            if names:
                starter.run("images", "rm", *names)
            starter.run("gc")


def _spec(bundle: Path, program: Sequence[str]) -> dict[str, object]:
    """Return runc's own default container, which may not write, with a program."""
    path = bundle / "config.json"
    path.unlink(missing_ok=True)
    run("runc", "spec", "--bundle", str(bundle))
    spec: dict[str, object] = json.loads(path.read_bytes())
    process = spec["process"]
    assert isinstance(process, dict)
    process |= {"terminal": False, "args": list(program)}
    return spec
