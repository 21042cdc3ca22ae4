"""Making hard links in the merged tree, where the file may lie in the layers below."""

from __future__ import annotations

import os
from typing import Final

from snapcore.archive.copyup import CopyUp
from snapcore.archive.failures import Path
from snapcore.archive.handles import Directory, Seen, lookup
from snapcore.archive.journal import Was
from snapcore.archive.metadata import AttributeWriter
from snapcore.archive.tree import MergedTree


class HardLinks:
    """Gives nodes of the merged tree further names in the upper directory."""

    def __init__(self, tree: MergedTree, writer: AttributeWriter, lower: int | None) -> None:
        """Link in `tree`; files only in the merged tree with root `lower` are copied up first."""
        self._tree: Final = tree
        self._copy_up: Final = None if lower is None else CopyUp(tree, writer, lower)

    def make(self, seen: Seen, source: Path, parent: Directory, name: bytes) -> None:
        """Make a hard link, in place of what has its name.

        Args:
            seen: the directory of the link's target.
            source: canonical path of the target, which exists and is no directory.
            parent: the directory of the link, ready for writing.
            name: of the link.

        Raises:
            OSError: as the calls that copy, remove and link.
        """
        if seen.upper is not None and lookup(seen.upper, source[-1]) is not None:
            self._link(seen.upper, source[-1], parent, name)
            return
        assert self._copy_up is not None
        self._copy_up.file(source)
        directory = self._tree.enter(source[:-1])
        try:
            self._link(directory.upper, source[-1], parent, name)
        finally:
            directory.close()

    def _link(self, directory: int, source: bytes, parent: Directory, name: bytes) -> None:
        self._tree.vacate(parent, name, Was.OTHER)
        os.link(source, name, src_dir_fd=directory, dst_dir_fd=parent.upper, follow_symlinks=False)
