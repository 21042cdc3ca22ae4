"""What a broken snapshotter is: one fault, and the checks that must catch it, with their words."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import pytest

from snapcore.conformance import MemorySnapshotter, MemoryState, OpenRoot, Subject
from snapcore.labels import SNAPSHOT_REF
from snapcore.snapshots import (
    Capability,
    Options,
    Probe,
    Snapshotter,
    WrapperChoice,
    open_backend,
    open_snapshotter,
    probe_snapshotter,
)
from snapcore_native import NativeSnapshotter
from snapcore_overlay import OverlaySnapshotter
from support.distributions import install, installed

_B = TypeVar("_B", MemorySnapshotter, NativeSnapshotter, OverlaySnapshotter)

Words = Mapping[str, str]
"""What the failure of a check says, in part, by the check's name."""


@dataclass(frozen=True, slots=True)
class Broken:
    """One broken snapshotter.

    Attributes:
        name: unique.
        fault: what is wrong with it.
        subject: makes it anew, with nothing in it.
        caught_by: the checks that must fail, and what they must say.
        mounts: its files can be mounted, which needs root.
    """

    name: str
    fault: str
    subject: Callable[[], Subject]
    caught_by: Words
    mounts: bool = False


def memory(
    fault: type,
    caught_by: Words,
    *,
    remote: str = "",
    staged: str = "",
    lacking: Capability | None = None,
) -> Broken:
    """Break the reference: in a class of it, or in a wrapper around it.

    Args:
        fault: the class.
        caught_by: as of `Broken`.
        remote: a layer that it makes available by itself.
        staged: a layer that it puts into what is prepared.
        lacking: what it does not claim.
    """
    backend, wrappers = _sorted_out(fault, MemorySnapshotter)
    capabilities = {Capability.REBASE, Capability.REMAP_IDS} - {lacking}
    if remote or staged:
        capabilities.add(Capability.REMOTE)
    probe = Probe(usable=True, capabilities=frozenset(each for each in capabilities if each))

    def subject() -> Subject:
        kept = MemoryState(
            remote=frozenset([remote] * bool(remote)), staged=frozenset([staged] * bool(staged))
        )
        labels = {SNAPSHOT_REF: remote or staged} if remote or staged else {}
        return _in_memory(
            lambda root: open_backend("memory", root, backend(kept), probe, wrappers=wrappers),
            labels,
        )

    return Broken(_name(fault), _text(fault), subject, caught_by)


def face(fault: type[Snapshotter], caught_by: Words) -> Broken:
    """Break core's part of the reference."""

    def subject() -> Subject:
        kept = MemoryState()

        def open_one(root: str) -> Snapshotter:
            whole = open_backend("memory", root, MemorySnapshotter(kept), Probe(usable=True))
            return fault(
                whole.name,
                whole.root,
                whole.probe,
                whole.options,
                whole._hooks,
                whole._timing,
                whole.durability,
            )

        return _in_memory(open_one, {})

    return Broken(_name(fault), _text(fault), subject, caught_by)


def native(fault: type, caught_by: Words) -> Broken:
    """Break the copying snapshotter."""
    backend, wrappers = _sorted_out(fault, NativeSnapshotter)
    return _on_disk(
        "native", fault, lambda root: backend(root, remap_ids=True), wrappers, caught_by
    )


def overlay(fault: type, caught_by: Words) -> Broken:
    """Break the overlay snapshotter."""
    backend, wrappers = _sorted_out(fault, OverlaySnapshotter)
    return _on_disk("overlay", fault, backend, wrappers, caught_by)


def plugin(fault: type, caught_by: Words) -> Broken:
    """Break an installed plugin, which other processes can open too; see `plugin_installed`."""
    options = {"fault": fault.__name__}
    subject = Subject(lambda root: open_snapshotter(_PLUGIN, root, options=options))
    return Broken(_name(fault), _text(fault), lambda: subject, caught_by)


@contextmanager
def plugin_installed(site: Path) -> Iterator[None]:
    """Have the broken plugin installed for this process and those that it starts."""
    install(site, _PLUGIN, {}, {"snapcore.snapshotters": {_PLUGIN: "support.broken_processes"}})
    tests = Path(__file__).resolve().parent.parent
    with installed(site), pytest.MonkeyPatch.context() as patch:
        places = (str(site), str(tests), os.environ.get("PYTHONPATH", ""))
        patch.setenv("PYTHONPATH", os.pathsep.join(places))
        yield


_PLUGIN: Final = "broken"


def _in_memory(open_one: OpenRoot, supply: Mapping[str, str]) -> Subject:
    def open_root(root: str) -> Snapshotter:
        os.makedirs(root, exist_ok=True)
        return open_one(root)

    return Subject(open_root, mountable=False, installed=False, supply=supply)


def _on_disk(
    name: str,
    fault: type,
    backend: Callable[[str], NativeSnapshotter | OverlaySnapshotter],
    wrappers: tuple[WrapperChoice, ...],
    caught_by: Words,
) -> Broken:
    def open_root(root: str) -> Snapshotter:
        probe = probe_snapshotter(name, root)
        return open_backend(name, root, backend(root), probe, wrappers=wrappers)

    subject = Subject(open_root, installed=False)
    return Broken(_name(fault), _text(fault), lambda: subject, caught_by, mounts=True)


def _sorted_out(fault: type, base: type[_B]) -> tuple[type[_B], tuple[WrapperChoice, ...]]:
    if issubclass(fault, base):
        return fault, ()

    def make(name: str, root: str, options: Options) -> object:
        return fault()

    return base, (make,)


def _name(fault: type) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"-\1", fault.__name__).lower()


def _text(fault: type) -> str:
    assert fault.__doc__
    return fault.__doc__
