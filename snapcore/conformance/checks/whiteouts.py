"""Layers that delete, applied where `target` says: any order of their entries is the same."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from snapcore.archive import (
    ApplyPolicy,
    Destination,
    Entry,
    EntryType,
    WhiteoutsFirst,
    apply_entries,
    collect,
)
from snapcore.conformance.harness import Harness, checks, expect_equal, write
from snapcore.oci.whiteout import WhiteoutStyle

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CASES: Final[tuple[tuple[tuple[str, ...], dict[str, str]], ...]] = (
    ((".wh.d", "d/", "d/new"), {"d/new": "new", "f": "old"}),
    (("d/.wh..wh..opq", "d/", "d/new"), {"d/new": "new", "f": "old"}),
    (("d/.wh..wh..opq", "d/.wh.one", "d/one"), {"d/one": "new", "f": "old"}),
    (("d/.wh.one", "d/three"), {"d/two": "old", "d/three": "new", "f": "old"}),
    ((".wh.d", "d/.wh.one"), {"f": "old"}),
    ((".wh.d", "d"), {"d": "new", "f": "old"}),
    ((".wh.f", "f"), {"d/one": "old", "d/two": "old", "f": "new"}),
    ((".wh.f", "f/inside"), {"d/one": "old", "d/two": "old", "f/inside": "new"}),
    ((".wh..wh..opq", "new"), {"new": "new"}),
)
"""Entries of a layer on the tree of `_fill`, and the files that there are afterwards."""


def check_whiteouts_in_every_order(harness: Harness) -> None:
    """Whiteouts and opaque marks act on the layers below, wherever in the layer they stand."""
    harness.layer("base", "", _fill)
    for names, wanted in _CASES:
        for order in itertools.permutations(names):
            _apply(harness, order)
            with harness.seen("top") as root:
                expect_equal(_files(root), wanted, f"files after a layer of {order}")
            harness.snapshotter.remove("top")


@dataclass(slots=True)
class _Layer:
    """The entries of a layer; each file holds `new`."""

    names: tuple[str, ...]

    def __iter__(self) -> Iterator[Entry]:
        for number, name in enumerate(self.names):
            path = tuple(part.encode() for part in name.split("/") if part)
            kind = EntryType.DIRECTORY if name.endswith("/") else EntryType.FILE
            size = 0 if name.endswith("/") or path[-1].startswith(b".wh.") else 3
            yield Entry(path, kind, 0o755, 0, 0, 0, size, b"", (), 0, 0, (), number)

    def copy_payload(self, descriptor: int, /) -> None:
        os.write(descriptor, b"new")


@dataclass(frozen=True, slots=True)
class _Steps:
    style: WhiteoutStyle

    def mark_opaque(self, directory: int) -> None:
        os.setxattr(directory, self.style.opaque_xattr, b"y")

    def progress(self, read: int) -> None:
        """Nobody waits."""


def _fill(root: str) -> None:
    for name in ("d/one", "d/two", "f"):
        write(root, name, b"old")


def _apply(harness: Harness, names: tuple[str, ...]) -> None:
    s = harness.snapshotter
    s.prepare("key", "base")
    try:
        _apply_once(harness, names, whiteouts_first=False)
    except WhiteoutsFirst:
        s.remove("key")
        s.prepare("key", "base")
        _apply_once(harness, names, whiteouts_first=True)
    s.commit("top", "key")


def _apply_once(harness: Harness, names: tuple[str, ...], *, whiteouts_first: bool) -> None:
    target = harness.snapshotter.target("key")
    with ExitStack() as stack:
        place = target.directory or stack.enter_context(harness.mounted(target.mounts))
        lower = None
        if target.whiteouts is not WhiteoutStyle.APPLY:
            lower = _opened(stack, stack.enter_context(harness.seen("base")))
        destination = Destination(_opened(stack, place), lower, target.whiteouts, base=False)
        deletions = collect(_Layer(names)) if whiteouts_first else None
        apply_entries(
            _Layer(names), destination, ApplyPolicy(), _Steps(target.whiteouts), deletions
        )


def _opened(stack: ExitStack, path: str) -> int:
    descriptor = os.open(path, _OPEN)
    stack.callback(os.close, descriptor)
    return descriptor


def _files(root: str) -> dict[str, str]:
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            with open(path, encoding="ascii") as stream:
                found[os.path.relpath(path, root)] = stream.read()
    return found


CHECKS = checks(check_whiteouts_in_every_order)
