"""Applying a layer apart from its parents: into an upper directory, with nothing known below.

Most of a layer does not depend on what is below it. What does is written down (`Postponed`) and
done by `settle` once the parents are known:

- A directory that only has entries below it is a *placeholder*: it may turn out to be a directory
  below, with attributes of its own, or a symlink that leads elsewhere.
- Whiteouts and opaque markers act on the layers below only, so all of them wait.
- A hard link to something that this layer does not have.

What cannot be told apart from an error, or depends on the order of entries in a way that would
have to be remembered, raises InOrder: symlinks of the layer on an entry's way, directories that
become something else and the reverse. Such layers are rare: archivers name the real places.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from snapcore.archive.apply import Applier, EntrySource
from snapcore.archive.failures import Missing, Path, shown
from snapcore.archive.handles import Directory, lookup
from snapcore.archive.journal import Untracked, Was
from snapcore.archive.postponed import Postponed, Postponing
from snapcore.archive.types import ApplyPolicy, Destination, Entry, InOrder, Steps
from snapcore.archive.whiteout import Deletion
from snapcore.errors import FailedPrecondition, RefusedInput
from snapcore.oci.whiteout import WhiteoutStyle


def apply_apart(
    source: EntrySource, destination: Destination, policy: ApplyPolicy, steps: Steps
) -> tuple[Mapping[str, int], Postponed]:
    """Apply all entries of a layer as far as that does not depend on the layers below.

    Args:
        source: the layer.
        destination: an empty upper directory, without `lower`; spoilt unless this returns.
        policy: what happens to what needs privilege.
        steps: what the parent process does for us.

    Returns:
        What was left out on purpose, by reason; and what `settle` must do.

    Raises:
        InOrder: the layer must be applied over its parents instead.
        FailedPrecondition: the destination shows the merged tree, or has something below.
        SnapcoreError: as `apply_entries`.
    """
    if destination.style is WhiteoutStyle.APPLY or destination.lower is not None:
        raise FailedPrecondition("a layer can only be applied apart into a bare upper directory")
    postponing = Postponing()
    applier = _Apart(source, destination, policy, steps, postponing)
    return applier.apply(()), postponing.collected()


class _Apart(Applier):
    def __init__(
        self,
        source: EntrySource,
        destination: Destination,
        policy: ApplyPolicy,
        steps: Steps,
        postponing: Postponing,
    ) -> None:
        super().__init__(source, destination, policy, steps, _Noting(postponing))
        self._postponing: Final = postponing

    def _delete(self, item: Deletion) -> None:
        self._postponing.delete(item)

    def _set_directory(self, entry: Entry, path: Path, descriptor: int) -> None:
        super()._set_directory(entry, path, descriptor)
        self._postponing.explicit(path)

    def _hardlink(self, entry: Entry, parent: Directory) -> None:
        try:
            super()._hardlink(entry, parent)
        except Missing as missing:
            if lookup(parent.upper, entry.path[-1]) is not None:
                raise InOrder(f"{shown(entry.path)} is replaced by a hard link") from missing
            self._postponing.link((*parent.path, entry.path[-1]), entry.link_path)


class _Noting(Untracked):
    """The journal of a layer that is applied apart."""

    def __init__(self, postponing: Postponing) -> None:
        self._postponing: Final = postponing

    def change(self, path: Path, before: Was, after: Was) -> None:
        """Check that no directory becomes anything else, and nothing else a directory.

        Raises:
            InOrder: it does.
        """
        if before is not Was.ABSENT and Was.DIRECTORY in (before, after):
            raise InOrder(f"{shown(path)} becomes a directory, or is one no longer")

    def imply(self, path: Path) -> None:
        """Write down a placeholder.

        Raises:
            InOrder: there are too many.
        """
        self._postponing.imply(path)

    def follow(self, path: Path) -> None:
        """Raise InOrder: where a symlink leads depends on the layers below."""
        raise InOrder(f"{shown(path)} is a symlink on the way of an entry")

    def refuse(self, message: str) -> RefusedInput:
        """Raise InOrder: over the layers below it may be something else, or refused in full."""
        raise InOrder(message)
