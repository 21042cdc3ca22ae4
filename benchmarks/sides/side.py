"""What a side of the comparison is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from benchmarks.image import Image
from benchmarks.programs import INSTALL, find
from benchmarks.watch import Watch

IMAGE: Final = "bench.example/image"
REFERENCE: Final = f"{IMAGE}:latest"


class Session(Protocol):
    """An implementation with the image at hand on its filesystem, ready to unpack."""

    watch: Watch
    """The processes that were there before the clock started."""

    def command(self) -> tuple[str, ...]:
        """Return the command whose run is the unpacking."""

    def unpacked(self, target: Path) -> AbstractContextManager[Path]:
        """Give the directory of the unpacked image, for the duration of a `with` block.

        Args:
            target: an empty directory, for those who have to mount it.
        """


class SessionMaker(Protocol):
    """Makes a session below a directory, and ends it: no process and no mount stays."""

    def __call__(self, place: Path, image: Image, /) -> AbstractContextManager[Session]:
        """Return the session, to be entered."""


@dataclass(frozen=True, slots=True)
class Side:
    """One implementation with one way of keeping trees.

    Attributes:
        name: for the table and `--only`.
        session: brings the image to a fresh place.
        version: as it says of itself; asked if all programs are there.
        inflater: what it inflates gzip with; the same.
        programs: that must be installed.
        note: what it does more or less than the others; "" for nothing.
        layers_share: a layer costs what is in it; False if each one is a whole tree.
        compared: its tree must be the same as the others'.
        usual: measured unless sides are named.
    """

    name: str
    session: SessionMaker
    version: Callable[[], str]
    inflater: Callable[[], str]
    programs: tuple[str, ...] = ()
    note: str = ""
    layers_share: bool = True
    compared: bool = True
    usual: bool = True

    def lacks(self) -> str:
        """Return which program is missing and how to get it; "" if all are there."""
        return lacking(self.programs)


def lacking(programs: Sequence[str]) -> str:
    """Return which of these programs are missing and how to get them; "" if all are there."""
    missing = [program for program in programs if find(program) is None]
    return f"{', '.join(missing)} not installed: {INSTALL}" if missing else ""
