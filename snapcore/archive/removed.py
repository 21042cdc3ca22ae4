"""What a layer's deletions remove from the tree below it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Self

from snapcore.archive.failures import Blocked, Path, layer_error
from snapcore.archive.looking import Looking
from snapcore.archive.whiteout import Deletion


class Removed:
    """The outermost of a layer's deletions, by canonical paths of the tree below.

    Attributes:
        emptied: directories that lose all they have.
        erased: what is gone itself.
    """

    def __init__(self, emptied: Iterable[Path], erased: Iterable[Path]) -> None:
        """Keep those that no other one includes."""
        all_emptied, all_erased = frozenset(emptied), frozenset(erased)
        self._emptied: Final = all_emptied
        self._erased: Final = all_erased
        self.erased: Final = sorted(p for p in all_erased if not self._above(p))
        self.emptied: Final = sorted(
            p for p in all_emptied if p not in all_erased and not self._above(p)
        )

    @classmethod
    def of(cls, below: Looking, deletions: Iterable[Deletion]) -> Self:
        """Resolve all deletions in the tree below as it is.

        Raises:
            SnapcoreError: a system call failed; what it was for is named.
        """
        emptied, erased = [], []
        places: dict[Path, Path | None] = {}
        for item in deletions:
            if item.parent not in places:
                places[item.parent] = _place(below, item.parent)
            place = places[item.parent]
            if place is None:
                continue
            if item.name is None:
                emptied.append(place)
            else:
                erased.append((*place, item.name))
        return cls(emptied, [path for path in erased if _exists(below, path)])

    def hides(self, path: Path) -> bool:
        """Tell whether what the tree below has at a canonical path is removed."""
        return path in self._erased or self._above(path)

    def _above(self, path: Path) -> bool:
        """Tell whether a directory above a path is emptied or erased."""
        return any(
            path[:length] in self._erased or path[:length] in self._emptied
            for length in range(len(path))
        )


def _place(below: Looking, raw: Path) -> Path | None:
    try:
        return below.way(raw).path
    except Blocked:
        return None
    except OSError as error:
        raise layer_error(error, raw) from error


def _exists(below: Looking, path: Path) -> bool:
    try:
        return below.status(path) is not None
    except OSError as error:
        raise layer_error(error, path) from error
