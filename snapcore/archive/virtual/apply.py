"""Applying a layer's entries to a tree that is only described.

The result is the layer's own tree: what its upper directory would hold had `apply_entries`
written it in the overlay styles. Same entries over the same layers, same tree or same refusal;
`archive.apply` and `archive.whiteout` say what that is and why.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Generic

from snapcore.archive.failures import Blocked, Missing, Path, shown
from snapcore.archive.metadata import AttributeWriter, clamp_time
from snapcore.archive.skipped import Skipped
from snapcore.archive.types import ApplyPolicy, Entry, EntryType
from snapcore.archive.virtual.attributes import directory_attributes, with_xattrs
from snapcore.archive.virtual.tree import DescribedTree, Own, Spot, count_links
from snapcore.archive.virtual.types import Directory, Leaf, P
from snapcore.archive.virtual.view import MergedDirectory, MergedView
from snapcore.archive.whiteout import check_parent, collect, deletion, is_leftover
from snapcore.errors import RefusedInput, from_os_error
from snapcore.oci.whiteout import WHITEOUT_PREFIX

_TYPES: Final = {
    EntryType.FILE: stat.S_IFREG,
    EntryType.CHARACTER: stat.S_IFCHR,
    EntryType.BLOCK: stat.S_IFBLK,
    EntryType.FIFO: stat.S_IFIFO,
}
_DEVICES: Final = (EntryType.CHARACTER, EntryType.BLOCK)
_SYMLINK_MODE: Final = stat.S_IFLNK | 0o777


@dataclass(frozen=True, slots=True)
class Described(Generic[P]):
    """What applying a layer gives.

    Attributes:
        root: the layer's own tree.
        skipped: what was left out on purpose, by reason.
    """

    root: Directory[P]
    skipped: Mapping[str, int]


def describe(
    entries: Iterable[tuple[Entry, P | None]],
    below: MergedView[P],
    policy: ApplyPolicy | None = None,
) -> Described[P]:
    """Apply all entries of a layer.

    Args:
        entries: the layer in order; with each file where its bytes are. Gone through twice; what
            can be gone through only once is kept in memory.
        below: the merged tree of the layers below.
        policy: what happens to what needs privilege; all is kept if None.

    Raises:
        RefusedInput: the layer is malformed or hostile; the entry is named.
        NotLazy: a hard link needs the bytes of an unpacked layer.
        SnapcoreError: an unpacked layer cannot be read.
    """
    layer = tuple(entries) if isinstance(entries, Iterator) else entries
    applier = _Applier(below, policy or ApplyPolicy())
    try:
        applier.delete(entry for entry, _ in layer)
        for entry, place in layer:
            applier.apply(entry, place)
    except OSError as error:
        raise from_os_error(error, "reading an unpacked layer") from error
    return applier.finish()


class _Applier(Generic[P]):
    def __init__(self, below: MergedView[P], policy: ApplyPolicy) -> None:
        self._policy: Final = policy
        self._skipped: Final = Skipped()
        self._writer: Final = AttributeWriter(policy, self._skipped)
        self._tree: Final = DescribedTree(below, self._writer)
        self._below: Final = below.root is not None
        self._checked: Path | None = None
        self._linked = False

    def finish(self) -> Described[P]:
        """Return the tree, which is not applied to any more."""
        if self._linked:
            count_links(self._tree.root)
        return Described(self._tree.root, self._skipped.counts())

    def delete(self, entries: Iterable[Entry]) -> None:
        """Apply all deletions, each resolved in the tree below as it is."""
        opaques: set[Path] = set()
        whiteouts: set[Path] = set()
        for item in collect(entries):
            if not self._below:
                continue
            try:
                spot = self._tree.see(item.parent)
            except Blocked:
                continue
            if item.name is None:
                opaques.add(spot.path)
            elif spot.find(item.name) is not None:
                whiteouts.add((*spot.path, item.name))
        for path in sorted(opaques):
            self._unless_gone(self._tree.empty, path)
        for path in sorted(whiteouts):
            self._unless_gone(self._tree.erase, path)

    @staticmethod
    def _unless_gone(change: Callable[[Path], None], path: Path) -> None:
        try:
            change(path)
        except Blocked:
            # Another deletion has taken the whole directory away.
            return

    def apply(self, entry: Entry, place: P | None) -> None:
        """Apply one entry that is no deletion; those are passed over."""
        try:
            self._entry(entry, place)
        except Blocked as blocked:
            raise RefusedInput(f"layer entry {shown(entry.path)}: {blocked}") from blocked

    def _entry(self, entry: Entry, place: P | None) -> None:
        path = entry.path
        if not path:
            self._root(entry)
            return
        name, raw = path[-1], path[:-1]
        if name.startswith(WHITEOUT_PREFIX):
            if not is_leftover(path):
                deletion(entry)
            return
        if raw != self._checked:
            if is_leftover(raw):
                return
            check_parent(path)
            self._checked = raw
        kind = entry.type
        if kind is EntryType.FILE:
            parent = self._tree.parent(raw)
            parent.children[name] = self._leaf(entry, size=entry.size, place=place)
        elif kind is EntryType.DIRECTORY:
            parent = self._tree.parent(raw)
            attributes = directory_attributes(entry, self._writer)
            self._tree.put_directory(parent, name, attributes)
        elif kind is EntryType.SYMLINK:
            self._tree.parent(raw).children[name] = self._symlink(entry)
        elif kind is EntryType.HARDLINK:
            self._hardlink(entry, *self._tree.enter(raw))
        elif kind in _DEVICES and self._policy.devices == "skip":
            self._skipped.add("device")
        else:
            self._tree.parent(raw).children[name] = self._node(entry)

    def _root(self, entry: Entry) -> None:
        if entry.type is not EntryType.DIRECTORY:
            raise RefusedInput(f"layer entry {shown(())}: it is a {entry.type.value}")
        self._tree.root.attributes = directory_attributes(entry, self._writer)

    def _leaf(
        self, entry: Entry, *, size: int = 0, device: int = 0, place: P | None = None
    ) -> Leaf[P]:
        mode, xattrs = (
            with_xattrs(entry, entry.mode, self._writer) if entry.xattrs else (entry.mode, ())
        )
        uid, gid = self._writer.owner(entry.uid, entry.gid)
        mtime = clamp_time(entry.mtime)
        return Leaf(_TYPES[entry.type] | mode, uid, gid, mtime, xattrs, size, device, b"", place)

    def _symlink(self, entry: Entry) -> Leaf[P]:
        if entry.xattrs:
            self._writer.select(entry)
        uid, gid = self._writer.owner(entry.uid, entry.gid)
        size, mtime = len(entry.link), clamp_time(entry.mtime)
        return Leaf(_SYMLINK_MODE, uid, gid, mtime, (), size, 0, entry.link)

    def _node(self, entry: Entry) -> Leaf[P]:
        device = os.makedev(entry.major, entry.minor) if entry.type in _DEVICES else 0
        if entry.type is EntryType.CHARACTER and device == 0:
            why = "character device 0:0 is the kernel's whiteout"
            raise RefusedInput(f"layer entry {shown(entry.path)}: {why}")
        return self._leaf(entry, device=device)

    def _hardlink(self, entry: Entry, directory: Path, parent: Own[P]) -> None:
        if not entry.link_path:
            raise RefusedInput(f"layer entry {shown(entry.path)}: a hard link to the root")
        path = (*directory, entry.path[-1])
        seen = self._tree.see(entry.link_path[:-1])
        self._check_source(seen, entry.link_path)
        source = (*seen.path, entry.link_path[-1])
        if source == path:
            return
        if source[: len(path)] == path:
            raise Blocked("it would replace the directory that its own target is in")
        own = seen.own.children.get(source[-1]) if seen.own is not None else None
        leaf = own if isinstance(own, Leaf) else self._tree.copy_up(source)
        parent.children[path[-1]] = leaf
        self._linked = True

    @staticmethod
    def _check_source(seen: Spot[P], link_path: Path) -> None:
        found = seen.find(link_path[-1])
        if found is None:
            raise Missing(f"its target {shown(link_path)} does not exist")
        if isinstance(found, Directory | MergedDirectory):
            raise Blocked(f"its target {shown(link_path)} is a directory")
