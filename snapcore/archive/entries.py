"""Applying a layer's entries to a directory (OCI image-spec, layer.md, "Applying Changesets").

One algorithm serves every backend: what differs between a full copy and an overlay's upper
directory lives in `MergedTree`. Names are bytes, every access is relative to an open directory,
no component is ever followed by the kernel, and no existing inode is opened or written to.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Final, Protocol

from snapcore.archive.attributes import (
    ACL_DEFAULT,
    Attributes,
    Xattrs,
    clamp_time,
    name_path,
)
from snapcore.archive.deletions import Whiteouts, hidden_name
from snapcore.archive.entryerrors import entry_error, refuse
from snapcore.archive.linkgroups import CopyUp
from snapcore.archive.merged import (
    Directory,
    Finish,
    Found,
    MergedTree,
    NotADirectory,
    TooManyLinks,
    Touch,
)
from snapcore.archive.types import ApplyPolicy, Destination, Entry, EntryType, Steps
from snapcore.oci.whiteout import AUFS_LEFTOVERS, WHITEOUT_PREFIX

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEVICES: Final = {EntryType.CHARACTER: stat.S_IFCHR, EntryType.BLOCK: stat.S_IFBLK}
_OWNER_ALL: Final = 0o700


class EntrySource(Protocol):
    """Entries in order, with the payload of the one given last."""

    def __iter__(self) -> EntrySource:
        """Return itself."""

    def __next__(self) -> Entry:
        """Return the next entry; what is left of a payload is skipped."""

    def copy_payload(self, descriptor: int) -> None:
        """Write the current entry's payload to an open file."""


class Applier:
    """Applies one layer to one destination."""

    def __init__(self, destination: Destination, policy: ApplyPolicy, steps: Steps) -> None:
        self._attributes: Final = Attributes(policy)
        self._devices: Final = policy.devices
        self._base: Final = destination.base
        self._tree: Final = MergedTree(destination, self._attributes, steps)
        self._whiteouts: Final = Whiteouts(self._tree)
        self._copy_up: Final = CopyUp(self._tree, self._attributes)
        # The last entry's directory, open; never a path that was resolved.
        self._parent: Directory | None = None
        self._parent_parts: tuple[bytes, ...] = ()

    @property
    def skipped(self) -> dict[str, int]:
        """What was left out on purpose, by reason."""
        return dict(self._attributes.skipped)

    def apply(
        self,
        entries: EntrySource,
        deletions: Iterable[tuple[tuple[bytes, ...], bytes]] | None = None,
    ) -> int:
        """Apply all entries.

        Args:
            entries: the layer.
            deletions: all of the layer's deletions, from `collect`; they are applied first, and
                those among the entries are passed over. None applies them as they come.

        Returns:
            How many entries there were.

        Raises:
            WhiteoutsFirst: as they come is not good enough; see `Whiteouts`.
            RefusedInput: the layer is malformed or hostile; the entry is named.
            ResourceExhausted, PermissionDenied, DataLoss, Unimplemented: what this host cannot.
        """
        self._begin()
        if deletions is not None:
            self._whiteouts.apply_all(deletions)
        count = 0
        try:
            for entry in entries:
                count += 1
                self._entry(entry, entries, skip_deletions=deletions is not None)
        finally:
            self._drop()
        self._tree.end()
        return count

    def _begin(self) -> None:
        tree, root = self._tree, self._tree.root
        if self._base:
            self._attributes.own(root.upper, 0, 0)
            os.fchmod(root.upper, 0o755)
            tree.finish[b""] = Finish(os.fstat(root.upper).st_ino, 0)
        elif root.lower >= 0:
            below = os.fstat(root.lower)
            tree.copy_attributes(root.lower, root.upper, below)
            tree.keep_attributes(b"", root.upper, os.fstat(root.upper))
            tree.finish[b""].mtime = below.st_mtime_ns
        else:
            tree.keep_attributes(b"", root.upper, os.fstat(root.upper))

    def _entry(self, entry: Entry, source: EntrySource, *, skip_deletions: bool) -> None:
        try:
            if not entry.path:
                self._root(entry)
            elif entry.path[-1].startswith(WHITEOUT_PREFIX):
                self._whiteout(entry, skip=skip_deletions)
            elif entry.type is EntryType.FILE:
                self._file(entry, source)
            elif entry.type is EntryType.DIRECTORY:
                self._directory(entry)
            elif entry.type is EntryType.SYMLINK:
                self._symlink(entry)
            elif entry.type is EntryType.HARDLINK:
                self._hardlink(entry)
            else:
                self._special(entry)
        except NotADirectory as error:
            raise refuse(entry, f"its parent {error.path[:200]!r} is not a directory") from error
        except TooManyLinks as error:
            raise refuse(entry, "its path leads through too many symlinks") from error
        except OSError as error:
            raise entry_error(error, entry) from error

    def _open_parent(self, entry: Entry) -> Directory:
        parts = entry.path[:-1]
        if self._parent is not None and parts == self._parent_parts:
            return self._parent
        if any(part.startswith(WHITEOUT_PREFIX) for part in parts):
            raise refuse(entry, "it lies below a whiteout")
        self._drop()
        directory = self._tree.resolve(parts, make=True)
        if directory is None:
            raise refuse(entry, "its parent cannot be made")
        self._tree.busy.add(directory.path)
        self._parent, self._parent_parts = directory, parts
        return directory

    def _drop(self) -> None:
        if self._parent is not None:
            self._tree.release(self._parent)
            self._parent = None

    def _whiteout(self, entry: Entry, *, skip: bool) -> None:
        parts = entry.path[:-1]
        if any(part.startswith(WHITEOUT_PREFIX) for part in parts):
            raise refuse(entry, "it lies below a whiteout")
        name = hidden_name(entry)
        if name is None or name in AUFS_LEFTOVERS or skip:
            return
        self._drop()
        self._whiteouts.apply(parts, name)

    def _root(self, entry: Entry) -> None:
        if entry.type is not EntryType.DIRECTORY:
            raise refuse(entry, f"the root is a {entry.type}, not a directory")
        root = self._tree.root
        self._set_directory(root, entry, self._attributes.usable(entry))

    def _file(self, entry: Entry, source: EntrySource) -> None:
        parent, name = self._open_parent(entry), entry.path[-1]
        try:
            file = os.open(name, _CREATE, 0o600, dir_fd=parent.upper)
        except FileExistsError:
            parent = self._make_room(entry, parent)
            file = os.open(name, _CREATE, 0o600, dir_fd=parent.upper)
        try:
            if entry.size:
                source.copy_payload(file)
            self._attributes.own(file, entry.uid, entry.gid)
            os.fchmod(file, entry.mode)
            if entry.xattrs:
                self._attributes.set_xattrs(file, self._attributes.usable(entry))
            time = clamp_time(entry.mtime)
            os.utime(file, ns=(time, time))
        finally:
            os.close(file)
        self._tree.touched[parent.at(name)] = Touch.CHANGED

    def _directory(self, entry: Entry) -> None:
        parent, name = self._open_parent(entry), entry.path[-1]
        found = self._tree.look(parent, name)
        if found and stat.S_ISDIR(found.status.st_mode):
            directory = self._tree.enter(parent, name, found, make=True)
            self._tree.touched.setdefault(directory.path, Touch.WALKED)
        else:
            if found and found.in_upper:
                parent = self._make_room(entry, parent)
                self._tree.touched[parent.at(name)] = Touch.CHANGED
            directory = self._tree.make_directory(parent, name)
        try:
            self._set_directory(directory, entry, self._attributes.usable(entry))
        finally:
            self._tree.release(directory)

    def _set_directory(self, directory: Directory, entry: Entry, xattrs: Xattrs) -> None:
        upper = directory.upper
        self._attributes.own(upper, entry.uid, entry.gid)
        os.fchmod(upper, entry.mode | _OWNER_ALL)
        now = tuple((name, value) for name, value in xattrs if name != ACL_DEFAULT)
        self._attributes.replace_xattrs(upper, now)
        self._tree.finish[directory.path] = Finish(
            os.fstat(upper).st_ino,
            clamp_time(entry.mtime),
            entry.mode if entry.mode & _OWNER_ALL != _OWNER_ALL else None,
            dict(xattrs).get(ACL_DEFAULT),
        )

    def _symlink(self, entry: Entry) -> None:
        parent, name = self._open_parent(entry), entry.path[-1]
        try:
            os.symlink(entry.link, name, dir_fd=parent.upper)
        except FileExistsError:
            parent = self._make_room(entry, parent)
            os.symlink(entry.link, name, dir_fd=parent.upper)
        self._finish_name(parent, entry)

    def _special(self, entry: Entry) -> None:
        parent, name = self._open_parent(entry), entry.path[-1]
        if entry.type in _DEVICES and self._devices == "skip":
            self._attributes.skipped["device"] += 1
            return
        kind = _DEVICES.get(entry.type, stat.S_IFIFO)
        device = os.makedev(entry.major, entry.minor) if entry.type in _DEVICES else 0
        try:
            os.mknod(name, kind | 0o600, device, dir_fd=parent.upper)
        except FileExistsError:
            parent = self._make_room(entry, parent)
            os.mknod(name, kind | 0o600, device, dir_fd=parent.upper)
        self._finish_name(parent, entry)

    def _finish_name(self, parent: Directory, entry: Entry) -> None:
        """Set the attributes of a node that must not be opened."""
        name = entry.path[-1]
        self._attributes.own_name(parent.upper, name, entry.uid, entry.gid)
        if entry.type is not EntryType.SYMLINK:
            # Just made and not a symlink, so there is nothing to follow.
            os.chmod(name, entry.mode, dir_fd=parent.upper)
        xattrs = self._attributes.usable(entry)
        if xattrs:
            self._attributes.set_xattrs(name_path(parent.upper, name), xattrs)
        time = clamp_time(entry.mtime)
        os.utime(name, ns=(time, time), dir_fd=parent.upper, follow_symlinks=False)
        self._tree.touched[parent.at(name)] = Touch.CHANGED

    def _hardlink(self, entry: Entry) -> None:
        if not entry.link_path:
            raise refuse(entry, "a hard link to the root")
        parent, name = self._open_parent(entry), entry.path[-1]
        source_parent, found = self._link_source(entry)
        try:
            source = entry.link_path[-1]
            existing = self._tree.look(parent, name)
            if existing and _same(existing, found):
                return
            if existing and existing.in_upper:
                parent = self._make_room(entry, parent)
            elif existing is None:
                # There may be a whiteout in the way.
                self._tree.clear(parent, name)
            os.link(
                source,
                name,
                src_dir_fd=source_parent.upper,
                dst_dir_fd=parent.upper,
                follow_symlinks=False,
            )
        finally:
            self._tree.release(source_parent)
        self._tree.touched[parent.at(name)] = Touch.CHANGED

    def _link_source(self, entry: Entry) -> tuple[Directory, Found]:
        """Open the directory that holds a link's target; the target itself is in the upper one."""
        parts, name = entry.link_path[:-1], entry.link_path[-1]
        directory = self._tree.resolve(parts, make=False)
        found = self._tree.look(directory, name) if directory else None
        if directory is None or found is None:
            if directory is not None:
                self._tree.release(directory)
            raise refuse(entry, f"hard link to {b'/'.join(entry.link_path)[:200]!r}: no such file")
        path = directory.path
        self._tree.release(directory)
        if stat.S_ISDIR(found.status.st_mode):
            raise refuse(entry, "a hard link to a directory")
        real = tuple(part for part in path.split(b"/") if part)
        if not found.in_upper:
            self._copy_up.file((*real, name))
        writable = self._tree.resolve(real, make=True)
        if writable is None:
            raise refuse(entry, "the directory of its target cannot be made")
        # Noted for the way through symlinks too: a later whiteout of one would change the link.
        way = self._tree.resolve(parts, make=True)
        if way is not None:
            self._tree.release(way)
        self._tree.busy.add(writable.path)
        self._tree.touched.setdefault(writable.at(name), Touch.WALKED)
        after = self._tree.look(writable, name)
        if after is None:
            self._tree.release(writable)
            raise refuse(entry, "the target of a hard link vanished")
        return writable, after

    def _make_room(self, entry: Entry, parent: Directory) -> Directory:
        """Remove what is in the way of an entry; return its parent, opened anew."""
        self._tree.clear(parent, entry.path[-1])
        self._drop()
        return self._open_parent(entry)


def collect(entries: EntrySource) -> list[tuple[tuple[bytes, ...], bytes]]:
    """Read a whole layer and return its deletions: directory and name, or the opaque marker.

    Raises:
        RefusedInput: the layer, or a whiteout in it, is malformed.
    """
    deletions: list[tuple[tuple[bytes, ...], bytes]] = []
    for entry in entries:
        name = hidden_name(entry) if entry.path else None
        if name is not None and name not in AUFS_LEFTOVERS:
            deletions.append((entry.path[:-1], name))
    return deletions


def _same(one: Found, other: Found) -> bool:
    return os.path.samestat(one.status, other.status)
