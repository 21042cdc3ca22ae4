"""The merged tree that a layer is applied to, walked by directory descriptors.

A directory of the merged tree is up to two descriptors: the upper one, which is written, and
the lower one, which the kernel has merged from all layers below. Where the target shows the
whole tree by itself there is no lower, and every rule here degenerates to the plain one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from snapcore.archive.attributes import (
    ACL_DEFAULT,
    Attributes,
    is_whiteout,
    read_xattrs,
)
from snapcore.archive.removal import open_directory, remove_name
from snapcore.archive.types import Destination, Steps
from snapcore.oci.whiteout import WhiteoutStyle

_MAX_LINKS: Final = 40
_NONE: Final = -1
_OWNER_ALL: Final = 0o700


class Touch(IntEnum):
    """What this layer did at a path so far."""

    WALKED = 0
    """Went through it, or linked to it."""
    FRESH = 1
    """Made a directory where there was nothing."""
    CHANGED = 2
    """Made or replaced something else."""
    GONE_DIRECTORY = 3
    """Whited out a directory."""
    GONE_OTHER = 4
    """Whited out anything else."""


class NotADirectory(Exception):
    """A path leads through something that is not a directory; `path` is where."""

    def __init__(self, path: bytes) -> None:
        super().__init__(path)
        self.path = path


class TooManyLinks(Exception):
    """A path leads through more than 40 symlinks."""


@dataclass(slots=True)
class Directory:
    """One open directory of the merged tree.

    Attributes:
        path: where it really is in the tree, without symlinks; b"" is the root.
        upper: descriptor in the directory that is written, -1 if it is not there.
        lower: descriptor in the tree below, -1 if nothing shines through.
    """

    path: bytes
    upper: int
    lower: int

    def at(self, name: bytes) -> bytes:
        """Return the path of a name in this directory."""
        return self.path + b"/" + name


@dataclass(frozen=True, slots=True)
class Found:
    """What a name is in the merged tree."""

    status: os.stat_result
    in_upper: bool


@dataclass(slots=True)
class Trail:
    """The way that a reading walk took.

    Attributes:
        passed: real paths of the directories and symlinks it went through.
        missing: real path of the component that it did not find; b"" if it arrived.
    """

    passed: list[bytes] = field(default_factory=list)
    missing: bytes = b""


@dataclass(slots=True)
class Finish:
    """What a touched directory gets at the very end.

    Attributes:
        inode: which one it was, so that another in its place is left alone.
        mtime: nanoseconds.
        mode: permission bits that would keep us out until then; None for none.
        acl: default ACL, taken away meanwhile so that children do not inherit it.
    """

    inode: int
    mtime: int
    mode: int | None = None
    acl: bytes | None = None


class MergedTree:
    """The tree, and what this layer has touched of it."""

    def __init__(self, destination: Destination, attributes: Attributes, steps: Steps) -> None:
        self.touched: Final[dict[bytes, Touch]] = {}
        self.busy: Final[set[bytes]] = set()
        self.finish: Final[dict[bytes, Finish]] = {}
        self.root: Final = Directory(
            b"", destination.directory, _NONE if destination.lower is None else destination.lower
        )
        self.overlay: Final = destination.style is not WhiteoutStyle.APPLY
        self._opaque: Final[set[bytes]] = set()
        self._attributes: Final = attributes
        self._steps: Final = steps

    def look(self, directory: Directory, name: bytes) -> Found | None:
        """Return what a name is in a directory of the merged tree, None if nothing."""
        if directory.upper != _NONE:
            try:
                status = os.stat(name, dir_fd=directory.upper, follow_symlinks=False)
            except FileNotFoundError:
                pass
            else:
                return None if self.overlay and is_whiteout(status) else Found(status, True)
        status_below = self.look_below(directory, name)
        return Found(status_below, False) if status_below else None

    def look_below(self, directory: Directory, name: bytes) -> os.stat_result | None:
        """Return what a name is in the tree below, whatever hides it."""
        if directory.lower == _NONE:
            return None
        try:
            return os.stat(name, dir_fd=directory.lower, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def resolve(
        self, parts: tuple[bytes, ...], *, make: bool, trail: Trail | None = None
    ) -> Directory | None:
        """Open the directory that a path leads to, following symlinks inside the root.

        Args:
            parts: components as the layer names them.
            make: the directory will be written in: copy up what is only below, make what is
                missing (0755, 0:0, time 0), and note everything as touched.
            trail: where the way is written down.

        Returns:
            The directory, for `release`; None if it does not exist and `make` is not set.

        Raises:
            NotADirectory: a component is something else.
            TooManyLinks: more than 40 symlinks.
        """
        stack = [self.root]
        try:
            arrived = self._walk(stack, list(reversed(parts)), make, trail or Trail())
            if make:
                self._note(stack[-1])
            return stack.pop() if arrived else None
        finally:
            for directory in stack:
                self.release(directory)

    def _walk(self, stack: list[Directory], todo: list[bytes], make: bool, trail: Trail) -> bool:
        links = 0
        while todo:
            name = todo.pop()
            if name == b"..":
                if len(stack) > 1:
                    self.release(stack.pop())
                continue
            current = stack[-1]
            found = self.look(current, name)
            if found is None:
                if not make:
                    trail.missing = current.at(name)
                    return False
                stack.append(self.make_directory(current, name))
                continue
            self._pass(current, name, make, trail)
            if stat.S_ISDIR(found.status.st_mode):
                stack.append(self.enter(current, name, found, make=make))
            elif stat.S_ISLNK(found.status.st_mode):
                links += 1
                if links > _MAX_LINKS:
                    raise TooManyLinks
                self._follow(stack, todo, name, found)
            else:
                raise NotADirectory(current.at(name))
        return True

    def _pass(self, current: Directory, name: bytes, make: bool, trail: Trail) -> None:
        path = current.at(name)
        if make:
            self.busy.add(current.path)
            self.touched.setdefault(path, Touch.WALKED)
        else:
            trail.passed.append(path)

    def _follow(self, stack: list[Directory], todo: list[bytes], name: bytes, found: Found) -> None:
        """Put a symlink's target in front of what is still to be walked, inside the root."""
        current = stack[-1]
        target = os.readlink(name, dir_fd=current.upper if found.in_upper else current.lower)
        if target.startswith(b"/"):
            while len(stack) > 1:
                self.release(stack.pop())
        todo.extend(part for part in reversed(target.split(b"/")) if part not in (b"", b"."))

    def release(self, directory: Directory) -> None:
        """Close a directory that `resolve` or `enter` gave; the root stays open."""
        if directory is not self.root:
            if directory.upper != _NONE:
                os.close(directory.upper)
            if directory.lower != _NONE:
                os.close(directory.lower)

    def enter(self, parent: Directory, name: bytes, found: Found, *, make: bool) -> Directory:
        """Open a subdirectory of the merged tree."""
        path = parent.at(name)
        lower = _NONE
        if parent.lower != _NONE and path not in self._opaque:
            lower = self._open_below(parent.lower, name)
        try:
            if found.in_upper:
                upper = self._open_upper(parent.upper, name, path)
            elif make:
                upper = self._copy_up_directory(parent, name, lower)
            else:
                upper = _NONE
        except BaseException:
            if lower != _NONE:
                os.close(lower)
            raise
        return Directory(path, upper, lower)

    def make_directory(self, parent: Directory, name: bytes) -> Directory:
        """Make a directory that no entry describes, or not yet: 0755, 0:0, time 0."""
        path = parent.at(name)
        self._note(parent)
        covers = self._uncover(parent, name)
        os.mkdir(name, _OWNER_ALL, dir_fd=parent.upper)
        upper = open_directory(parent.upper, name)
        try:
            if covers:
                self.mark_opaque(path, upper)
            self._attributes.own(upper, 0, 0)
            os.fchmod(upper, 0o755)
            self.finish[path] = Finish(os.fstat(upper).st_ino, 0)
        except BaseException:
            os.close(upper)
            raise
        self.busy.add(parent.path)
        replaces = covers or path in self.touched or self.look_below(parent, name) is not None
        self.touched[path] = Touch.CHANGED if replaces else Touch.FRESH
        return Directory(path, upper, _NONE)

    def _uncover(self, parent: Directory, name: bytes) -> bool:
        """Take away a whiteout that is in the way; say if a lower directory would shine through."""
        try:
            os.unlink(name, dir_fd=parent.upper)
        except FileNotFoundError:
            below = None
            if parent.at(name) in self.touched:
                below = self.look_below(parent, name)
        else:
            below = self.look_below(parent, name)
        return below is not None and stat.S_ISDIR(below.st_mode)

    def clear(self, directory: Directory, name: bytes) -> os.stat_result | None:
        """Remove whatever the written directory has under a name, and forget what was below it.

        Returns:
            What it was, None if there was nothing.
        """
        try:
            status = os.stat(name, dir_fd=directory.upper, follow_symlinks=False)
        except FileNotFoundError:
            return None
        remove_name(directory.upper, name)
        if stat.S_ISDIR(status.st_mode):
            path = directory.at(name)
            self._forget(path)
        return status

    def mark_opaque(self, path: bytes, upper: int) -> None:
        """Let nothing from below shine through a directory any more."""
        self._steps.mark_opaque(upper)
        self._opaque.add(path)

    def hide_below(self, directory: Directory) -> None:
        """Stop an open directory, too, from showing what is below; the root for good."""
        if directory.lower != _NONE:
            if directory is not self.root:
                os.close(directory.lower)
            directory.lower = _NONE

    def keep_attributes(self, path: bytes, upper: int, status: os.stat_result) -> None:
        """Note what a directory must look like at the end, before its content is changed."""
        if path in self.finish:
            return
        finish = Finish(status.st_ino, status.st_mtime_ns)
        mode = stat.S_IMODE(status.st_mode)
        if mode & _OWNER_ALL != _OWNER_ALL:
            finish.mode = mode
            os.fchmod(upper, mode | _OWNER_ALL)
        try:
            finish.acl = os.getxattr(upper, ACL_DEFAULT)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
        else:
            os.removexattr(upper, ACL_DEFAULT)
        self.finish[path] = finish

    def end(self) -> None:
        """Give every touched directory its final mode, default ACL and time."""
        # Deepest first: a mode may lock its directory.
        for path in sorted(self.finish, key=lambda p: (-p.count(b"/"), p)):
            finish = self.finish[path]
            descriptor = self._reopen(path)
            if descriptor is None:
                continue
            try:
                if os.fstat(descriptor).st_ino != finish.inode:
                    continue
                if finish.mode is not None:
                    os.fchmod(descriptor, finish.mode)
                if finish.acl is not None:
                    os.setxattr(descriptor, ACL_DEFAULT, finish.acl)
                os.utime(descriptor, ns=(finish.mtime, finish.mtime))
            finally:
                os.close(descriptor)

    def names_below(self) -> Iterator[tuple[tuple[bytes, ...], os.stat_result]]:
        """Yield the paths of everything in the tree below that has several links."""
        if self.root.lower == _NONE:
            return
        pending: list[tuple[bytes, ...]] = [()]
        while pending:
            parts = pending.pop()
            directory = _descend(self.root.lower, parts)
            try:
                for text in os.listdir(directory):
                    name = os.fsencode(text)
                    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append((*parts, name))
                    elif status.st_nlink > 1:
                        yield (*parts, name), status
            finally:
                os.close(directory)

    def _note(self, directory: Directory) -> None:
        if directory.path not in self.finish and directory.upper != _NONE:
            self.keep_attributes(directory.path, directory.upper, os.fstat(directory.upper))

    def _copy_up_directory(self, parent: Directory, name: bytes, lower: int) -> int:
        self._note(parent)
        status = os.fstat(lower)
        os.mkdir(name, _OWNER_ALL, dir_fd=parent.upper)
        upper = open_directory(parent.upper, name)
        try:
            self.copy_attributes(lower, upper, status)
            self.keep_attributes(parent.at(name), upper, os.fstat(upper))
            self.finish[parent.at(name)].mtime = status.st_mtime_ns
        except BaseException:
            os.close(upper)
            raise
        return upper

    def copy_attributes(self, source: int, target: int, status: os.stat_result) -> None:
        """Give an open directory the owner, mode and xattrs of another."""
        self._attributes.own(target, status.st_uid, status.st_gid)
        os.fchmod(target, stat.S_IMODE(status.st_mode))
        self._attributes.replace_xattrs(target, read_xattrs(source))

    def _open_upper(self, directory: int, name: bytes, path: bytes) -> int:
        try:
            return open_directory(directory, name)
        except PermissionError:
            # Without privilege a directory of the layers below may keep even its owner out.
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            os.chmod(name, stat.S_IMODE(status.st_mode) | _OWNER_ALL, dir_fd=directory)
            upper = open_directory(directory, name)
            self.keep_attributes(path, upper, status)
            return upper

    @staticmethod
    def _open_below(directory: int, name: bytes) -> int:
        try:
            return open_directory(directory, name)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return _NONE
            raise

    def _reopen(self, path: bytes) -> int | None:
        try:
            return _descend(self.root.upper, tuple(p for p in path.split(b"/") if p))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise

    def _forget(self, path: bytes) -> None:
        prefix = path + b"/"
        for known in (self.finish, self._opaque):
            for other in [p for p in known if p == path or p.startswith(prefix)]:
                if isinstance(known, dict):
                    del known[other]
                else:
                    known.discard(other)


def _descend(root: int, parts: tuple[bytes, ...]) -> int:
    """Open a directory below `root` by its components, none of which may be a symlink."""
    current = os.dup(root)
    for part in parts:
        try:
            child = open_directory(current, part)
        finally:
            os.close(current)
        current = child
    return current
