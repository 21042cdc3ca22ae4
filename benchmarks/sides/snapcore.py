"""snapcore itself: a whole process for each unpacking, there is no daemon.

Nothing is synced within the clock, as with all others, but on the side that says so.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.image import Image
from benchmarks.programs import Failed, run
from benchmarks.sides.side import REFERENCE, Session, Side
from benchmarks.watch import Watch

_REPOSITORY: Final = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class _Snapcore:
    root: str
    config: str
    flags: tuple[str, ...]
    watch: Watch = field(default_factory=Watch)

    def images(self, *arguments: str) -> tuple[str, ...]:
        program = os.path.join(os.path.dirname(sys.executable), "snapcore")
        return (program, "--config", self.config, "--root", self.root, "images", *arguments)

    def command(self) -> tuple[str, ...]:
        return self.images("unpack", REFERENCE, *self.flags)

    @contextmanager
    def unpacked(self, target: Path) -> Iterator[Path]:
        # The first snapshotter is the one that is mounted.
        run(*self.images("mount", REFERENCE, str(target), *self.flags[:2]))
        try:
            yield target
        finally:
            run(*self.images("unmount", str(target)))


@contextmanager
def _session(
    flags: tuple[str, ...], durability: str, place: Path, image: Image
) -> Iterator[Session]:
    """Import the image into a snapcore root, not unpacked."""
    config = place / "config.toml"
    config.write_text(f'version = 1\ndurability = "{durability}"\n')
    session = _Snapcore(str(place / "root"), str(config), flags)
    run(*session.images("import", image.layout, "--name", REFERENCE, "--no-unpack"))
    yield session


def version() -> str:
    """Return the version of snapcore, and of its checkout."""
    released = importlib.metadata.version("snapcore")
    try:
        commit = run("git", "-C", str(_REPOSITORY), "describe", "--always", "--dirty=+").strip()
    except Failed:
        return released
    return f"{released} ({commit})"


def _inflater() -> str:
    return f"ISA-L (isal {importlib.metadata.version('isal')}), a thread"


def _side(
    name: str,
    *flags: str,
    note: str = "",
    durability: str = "none",
    layers_share: bool = True,
    usual: bool = True,
) -> Side:
    return Side(
        name,
        partial(_session, flags, durability),
        version,
        _inflater,
        note=note,
        layers_share=layers_share,
        usual=usual,
    )


SIDES: Final = (
    _side("snapcore", "--snapshotter", "overlay"),
    _side(
        "snapcore-1", "--snapshotter", "overlay", "--max-concurrent-unpacks", "1",
        note="one worker", usual=False,
    ),
    _side(
        "snapcore-flush", "--snapshotter", "overlay",
        note="all on disk before it returns", durability="flush", usual=False,
    ),
    _side("snapcore-erofs", "--snapshotter", "erofs", note="nothing is extracted"),
    _side("snapcore-native", "--snapshotter", "native", layers_share=False),
    _side(
        "snapcore-both", "--snapshotter", "overlay", "--snapshotter", "native",
        note="overlay and native in one pass", layers_share=False, usual=False,
    ),
)  # fmt: skip
