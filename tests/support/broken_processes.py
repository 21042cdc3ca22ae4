"""Snapshotters that are broken only where several processes use them.

`support` itself is their plugin: option `fault` names one of the classes below.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from snapcore.errors import AlreadyExists
from snapcore.snapshots import (
    Backend,
    Checkpoint,
    Info,
    Labels,
    Mounts,
    Option,
    Options,
    Probe,
    hookimpl,
)
from snapcore_native import NativeSnapshotter


class TrustsItsMemory(NativeSnapshotter):
    """What it has seen to be there is there until it removes it itself."""

    __slots__ = ("_seen",)

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._seen: Final[set[str]] = set()

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        if key in self._seen:
            raise AlreadyExists(key)
        mounts = super().prepare(key, parent, labels, checkpoint)
        self._seen.add(key)
        return mounts

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        info = super().commit(name, key, labels, parent, checkpoint)
        self._seen.discard(key)
        return info

    @hookimpl
    def remove(self, key: str, checkpoint: Checkpoint) -> Info:
        info = super().remove(key, checkpoint)
        self._seen.discard(key)
        return info


class LeavesATrace(NativeSnapshotter):
    """Notes down what it is about to do where no cleanup looks."""

    __slots__ = ()

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        directory = os.path.join(self._disk.root, "notes")
        os.makedirs(directory, exist_ok=True)
        note = os.path.join(directory, "note")
        with open(note, "w"):
            mounts = super().prepare(key, parent, labels, checkpoint)
        os.unlink(note)
        return mounts


_FAULTS: Final = {each.__name__: each for each in (TrustsItsMemory, LeavesATrace)}


@hookimpl
def snapcore_options() -> Mapping[str, Option]:
    """Return the one option."""
    return {"fault": Option(str, "", "Which one.", choices=tuple(_FAULTS))}


@hookimpl
def snapcore_probe() -> Probe:
    """Work everywhere."""
    return Probe(usable=True)


@hookimpl
def snapcore_open(root: str, options: Options) -> Backend:
    """Open the one that is asked for."""
    return _FAULTS[str(options["fault"])](root)
