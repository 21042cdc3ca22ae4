"""Applying a layer's entries to a directory (OCI image-spec, layer.md, "Applying Changesets").

One algorithm serves every backend: what differs between a directory that shows the whole tree
and an overlay's upper directory lives in `MergedTree`. Names are bytes, every access is relative
to an open directory, and no existing node is ever opened or written into: what is in the way is
removed and a new inode made, except that a directory over a directory gets new attributes.

A hard link entry gives a name and nothing else: its mode, owner and times are stale copies.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

from snapcore.archive.failures import Blocked, Missing, Path, layer_error, shown
from snapcore.archive.handles import Directory, Seen, lookup
from snapcore.archive.journal import Journal, Tracking, Untracked, Was
from snapcore.archive.links import HardLinks
from snapcore.archive.metadata import AttributeWriter, clamp_time
from snapcore.archive.privilege import entry_error
from snapcore.archive.skipped import Skipped
from snapcore.archive.tree import MergedTree
from snapcore.archive.types import ApplyPolicy, Destination, Entry, EntryType, Steps
from snapcore.archive.whiteout import (
    Deletion,
    check_parent,
    delete,
    delete_all,
    deletion,
    is_leftover,
)
from snapcore.errors import RefusedInput
from snapcore.oci.whiteout import WHITEOUT_PREFIX, WhiteoutStyle

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEVICES: Final = {EntryType.CHARACTER: stat.S_IFCHR, EntryType.BLOCK: stat.S_IFBLK}
_BASE_MODE: Final = 0o755


class EntrySource(Protocol):
    """A layer's entries in order, with the payload of the one given last."""

    def __iter__(self) -> Iterator[Entry]:
        """Iterate; what is left of an entry's payload is skipped when the next is asked for."""

    def copy_payload(self, descriptor: int, /) -> None:
        """Write the current entry's payload to an open file."""


def apply_entries(
    source: EntrySource,
    destination: Destination,
    policy: ApplyPolicy,
    steps: Steps,
    deletions: Iterable[Deletion] | None = None,
) -> Mapping[str, int]:
    """Apply all entries of a layer.

    Args:
        source: the layer.
        destination: where; spoilt unless this returns.
        policy: what happens to what needs privilege.
        steps: what the parent process does for us.
        deletions: all of the layer's deletions, from `collect`; they are applied first and
            passed over among the entries. None applies them as they come.

    Returns:
        What was left out on purpose, by reason.

    Raises:
        WhiteoutsFirst: only without `deletions`: do it again with them, in a fresh place.
        RefusedInput: the layer is malformed or hostile; the entry is named.
        ResourceExhausted: disk, quota, inodes, links or descriptors ran out.
        PermissionDenied: this process may not do what an entry asks.
        Unimplemented: the target's filesystem lacks xattrs that the layer needs.
        DataLoss: the medium failed.
    """
    plain = destination.style is WhiteoutStyle.APPLY
    something_below = destination.lower is not None or (plain and not destination.base)
    if not something_below:
        return Applier(source, destination, policy, steps, Untracked()).apply(())
    if deletions is None:
        return _SinglePass(source, destination, policy, steps, Tracking()).apply(())
    return Applier(source, destination, policy, steps, Untracked()).apply(deletions)


class Applier:
    """Applies the entries of one layer that are not deletions; those it passes over."""

    def __init__(
        self,
        source: EntrySource,
        destination: Destination,
        policy: ApplyPolicy,
        steps: Steps,
        journal: Journal,
    ) -> None:
        """Apply as `apply_entries` says, and tell `journal` what is done."""
        self._source: Final = source
        self._destination: Final = destination
        self._policy: Final = policy
        self._skipped: Final = Skipped()
        self._writer: Final = AttributeWriter(policy, self._skipped)
        self._journal: Final = journal
        self._tree: Final = MergedTree(destination, self._writer, journal, steps)
        self._links: Final = HardLinks(self._tree, self._writer, destination.lower)

    def apply(self, deletions: Iterable[Deletion]) -> Mapping[str, int]:
        """Apply these deletions, then the entries; return what was left out, by reason.

        Raises:
            SnapcoreError: as `apply_entries`.
        """
        try:
            self._begin()
            delete_all(self._tree, deletions)
            for entry in self._source:
                try:
                    self._entry(entry)
                except Blocked as blocked:
                    raise self._refuse(entry, str(blocked)) from blocked
                except OSError as error:
                    raise entry_error(error, entry) from error
        finally:
            self._tree.close()
        try:
            self._tree.deferred.carry_out(self._destination.directory)
        except OSError as error:
            raise layer_error(error, ()) from error
        return self._skipped.counts()

    def _refuse(self, entry: Entry, why: str) -> RefusedInput:
        return self._journal.refuse(f"layer entry {shown(entry.path)}: {why}")

    def _begin(self) -> None:
        """Give the root what it keeps unless an entry says otherwise."""
        root, lower = self._destination.directory, self._destination.lower
        deferred = self._tree.deferred
        try:
            if self._destination.base:
                os.fchown(root, *self._writer.owner(0, 0))
                os.fchmod(root, _BASE_MODE)
                self._writer.replace_xattrs(root, ())
                deferred.set((), os.fstat(root), 0, _BASE_MODE)
            elif lower is not None:
                self._tree.copy_attributes((), lower, root)
            else:
                status = os.fstat(root)
                deferred.set((), status, status.st_mtime_ns, stat.S_IMODE(status.st_mode))
        except OSError as error:
            raise layer_error(error, ()) from error

    def _entry(self, entry: Entry) -> None:
        path = entry.path
        if not path:
            self._root(entry)
            return
        if path[-1].startswith(WHITEOUT_PREFIX):
            self._whiteout(entry)
            return
        raw = path[:-1]
        if not self._tree.is_open(raw):
            if is_leftover(raw):
                return
            check_parent(path)
        kind = entry.type
        if kind is EntryType.FILE:
            self._file(entry, self._tree.parent(raw))
        elif kind is EntryType.DIRECTORY:
            self._make_directory(entry, self._tree.parent(raw))
        elif kind is EntryType.SYMLINK:
            self._symlink(entry, self._tree.parent(raw))
        elif kind is EntryType.HARDLINK:
            self._hardlink(entry, self._tree.parent(raw))
        elif kind in _DEVICES and self._policy.devices == "skip":
            self._skipped.add("device")
        else:
            self._node(entry, self._tree.parent(raw))

    def _root(self, entry: Entry) -> None:
        if entry.type is not EntryType.DIRECTORY:
            raise RefusedInput(f"layer entry {shown(())}: it is a {entry.type.value}")
        self._set_directory(entry, (), self._destination.directory)
        # It may be the open directory, and from now on what is made in it may inherit from it.
        self._tree.forget()

    def _whiteout(self, entry: Entry) -> None:
        if is_leftover(entry.path):
            return
        self._delete(deletion(entry))

    def _delete(self, item: Deletion) -> None:
        """Do nothing: it is applied already, or there is nothing that it could delete."""

    def _file(self, entry: Entry, parent: Directory) -> None:
        self._touched(entry, parent)
        file = self._open_new(parent, entry.path[-1])
        try:
            if entry.size:
                self._source.copy_payload(file)
            self._writer.file(file, entry, plain=parent.plain)
        finally:
            os.close(file)

    def _open_new(self, parent: Directory, name: bytes) -> int:
        # In an upper directory a new file hides one that is only below by itself.
        if not self._below(parent, name).leads_on:
            try:
                return os.open(name, _CREATE, 0o600, dir_fd=parent.upper)
            except FileExistsError:
                pass
        self._tree.vacate(parent, name, Was.OTHER)
        return os.open(name, _CREATE, 0o600, dir_fd=parent.upper)

    def _make_directory(self, entry: Entry, parent: Directory) -> None:
        name, path = entry.path[-1], self._touched(entry, parent)
        directory = self._tree.merge_directory(parent, name)
        if directory is None:
            self._tree.vacate(parent, name, Was.DIRECTORY)
            directory = self._tree.make_directory(parent, name)
        try:
            self._set_directory(entry, path, directory.upper)
        except BaseException:
            directory.close()
            raise
        if self._tree.is_open(entry.path[:-1]):
            self._tree.stay_in(entry.path, directory)
        else:
            directory.close()

    def _set_directory(self, entry: Entry, path: Path, descriptor: int) -> None:
        self._writer.directory(descriptor, entry)
        mtime = clamp_time(entry.mtime)
        self._tree.deferred.set(path, os.fstat(descriptor), mtime, entry.mode)

    def _symlink(self, entry: Entry, parent: Directory) -> None:
        name, path = entry.path[-1], self._touched(entry, parent)
        below = self._below(parent, name)
        if below is not Was.ABSENT or not self._symlinked(entry.link, parent, name):
            self._tree.vacate(parent, name, Was.SYMLINK)
            os.symlink(entry.link, name, dir_fd=parent.upper)
        else:
            self._journal.change(path, Was.ABSENT, Was.SYMLINK)
        self._writer.symlink(parent.upper, name, entry)

    @staticmethod
    def _symlinked(target: bytes, parent: Directory, name: bytes) -> bool:
        try:
            os.symlink(target, name, dir_fd=parent.upper)
        except FileExistsError:
            return False
        return True

    def _node(self, entry: Entry, parent: Directory) -> None:
        name = entry.path[-1]
        kind = _DEVICES.get(entry.type, stat.S_IFIFO)
        device = os.makedev(entry.major, entry.minor) if entry.type in _DEVICES else 0
        if kind == stat.S_IFCHR and device == 0:
            why = "character device 0:0 is the kernel's whiteout"
            raise RefusedInput(f"layer entry {shown(entry.path)}: {why}")
        self._touched(entry, parent)
        self._tree.vacate(parent, name, Was.OTHER)
        os.mknod(name, kind | 0o600, device, dir_fd=parent.upper)
        self._writer.node(parent.upper, name, entry, plain=parent.plain)

    def _hardlink(self, entry: Entry, parent: Directory) -> None:
        if not entry.link_path:
            raise RefusedInput(f"layer entry {shown(entry.path)}: a hard link to the root")
        path = self._touched(entry, parent)
        seen = self._tree.see_for_link(entry.link_path[:-1])
        try:
            source = self._link_source(seen, entry.link_path)
            if source == path:
                return
            if source[: len(path)] == path:
                raise Blocked("it would replace the directory that its own target is in")
            self._links.make(seen, source, parent, path[-1])
        finally:
            seen.close()

    def _link_source(self, seen: Seen, link_path: Path) -> Path:
        """Return the canonical path of a hard link's target, which exists and is no directory."""
        found = self._tree.find(seen, link_path[-1])
        if found is None:
            raise Missing(f"its target {shown(link_path)} does not exist")
        if stat.S_ISDIR(found[0].st_mode):
            raise Blocked(f"its target {shown(link_path)} is a directory")
        source = (*seen.path, link_path[-1])
        self._journal.populate(seen.path)
        self._journal.touch(source)
        return source

    def _touched(self, entry: Entry, parent: Directory) -> Path:
        """Tell the journal of an entry; return its canonical path."""
        path = (*parent.path, entry.path[-1])
        self._journal.touch(path)
        return path

    @staticmethod
    def _below(parent: Directory, name: bytes) -> Was:
        """Return the kind of node that the tree below has under the name of a new one."""
        return Was.of(None if parent.lower is None else lookup(parent.lower, name))


class _SinglePass(Applier):
    """Applies deletions where they stand among the entries."""

    def __init__(
        self,
        source: EntrySource,
        destination: Destination,
        policy: ApplyPolicy,
        steps: Steps,
        journal: Tracking,
    ) -> None:
        super().__init__(source, destination, policy, steps, journal)
        self._tracking: Final = journal

    def _delete(self, item: Deletion) -> None:
        delete(self._tree, self._tracking, item)
