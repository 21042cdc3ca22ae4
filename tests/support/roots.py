"""The root of a node, looked at from outside: what is unfinished there, and pulls into it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snapcore.oci import chain_ids
from support.cli import Outcome, spawn
from support.faults import FakeRegistry
from support.layout import Layer, LayoutBuilder
from support.nodes import running, serve

LOST: Final = {
    "mount points": "state",
    "owners": "owner",
    "ingests": "content/ingest",
    "owners of snapshots": "snapshotters/{}/owner",
    "snapshots": "snapshotters/{}/snapshots",
}
"""Directories of a root in which unfinished things lie."""


@dataclass(frozen=True, slots=True)
class Served:
    """An image in a registry of the test's own."""

    registry: FakeRegistry
    layers: tuple[Layer, ...]

    @property
    def reference(self) -> str:
        """What to pull."""
        return f"{self.registry.host}/slow"

    @property
    def chain(self) -> list[str]:
        """Return the names of its snapshots, sorted."""
        return sorted(map(str, chain_ids([layer.diff_id for layer in self.layers])))

    @property
    def chain_id(self) -> str:
        """Return the name of its top snapshot."""
        return str(chain_ids([layer.diff_id for layer in self.layers])[-1])

    @property
    def last(self) -> str:
        """Where the registry has the last layer."""
        return f"/blobs/{self.layers[-1].descriptor.digest}"


@contextmanager
def served(builder: LayoutBuilder, layers: Sequence[Layer]) -> Iterator[Served]:
    """Serve a layout's image of these layers for the duration of a `with` block."""
    with FakeRegistry() as registry:
        serve(registry, builder)
        yield Served(registry, tuple(layers))


@dataclass(frozen=True, slots=True)
class Root:
    """The root of a node, its backend, and the image that is pulled into it."""

    path: Path
    backend: str
    image: Served

    def pull_arguments(self) -> tuple[str, ...]:
        """Return the command line of a pull."""
        place = ("--root", str(self.path), "--snapshotter", self.backend)
        return *place, "pull", "--plain-http", self.image.reference

    def pulling(self) -> AbstractContextManager[subprocess.Popen[str]]:
        """Pull beside the `with` block."""
        return running(self.path, *self.pull_arguments()[2:])

    def pull(self) -> None:
        """Pull, successfully."""
        done = spawn(*self.pull_arguments())
        assert done.code == 0, done.err

    def unfinished_layer(self) -> Path | None:
        """Return the directory in which the last layer is arriving, None while it is in none."""
        for directory in (self.path / "content/ingest").glob("*"):
            with suppress(FileNotFoundError):
                if str(self.image.layers[-1].descriptor.digest) in (directory / "ref").read_text():
                    return directory
        return None

    def arrived(self) -> int:
        """Return how many bytes of the last layer are on disk, unless it is whole."""
        directory = self.unfinished_layer()
        with suppress(FileNotFoundError):
            return (directory / "data").stat().st_size if directory else 0
        return 0

    def run(self, *arguments: str) -> Outcome:
        """Run a command line on this root."""
        return spawn("--root", str(self.path), *arguments)

    def snapshots(self) -> list[str]:
        """Open the node and list its snapshots, sorted by name."""
        done = self.run("--snapshotter", self.backend, "snapshots", "ls", "-q")
        assert done.code == 0, done.err
        return sorted(done.out.split())

    def unfinished(self) -> dict[str, tuple[str, ...]]:
        """Return what lies where unfinished things lie, without opening the node."""
        found: dict[str, tuple[str, ...]] = {}
        for place, directory in LOST.items():
            path = self.path / directory.format(self.backend)
            found[place] = tuple(sorted(os.listdir(path))) if path.exists() else ()
        return found

    def check_clean(self) -> list[str]:
        """Check that nothing is unfinished; return the snapshots."""
        left = self.unfinished()
        directories = left.pop("snapshots")
        assert left == dict.fromkeys(left, ())
        assert all(name.isdigit() for name in directories)
        listed = self.snapshots()
        assert len(listed) == len(directories)
        return listed
