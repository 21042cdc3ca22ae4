r"""The canonical digest of a directory tree: equal trees have equal digests on any filesystem.

The digest is the sha256 of the tree's listing, so `tree_listing` shows what a digest stands for
and two listings can be compared with diff(1). Format, version 1, as UTF-8 lines that end in a
newline:

    #snapcore-tree 1
    <path> <type> <mode> <uid>:<gid> <mtime> [size=<n> sha256=<hex>] [target=<text>]
        [device=<major>:<minor>] [xattr.<name>=<hex>]... [same=<path>]

- One line for each name, the root first, as `.`; then depth first, the names of a directory
  sorted as raw bytes. So paths are sorted component by component.
- Paths, targets and xattr names are raw bytes; each byte outside `!` … `~`, the backslash and,
  in xattr names, `=` is written as `\x` and two hex digits.
- type: file directory symlink character block fifo socket. mode: four octal digits.
- mtime: whole seconds, rounded down, and nine digits of nanoseconds to add to them:
  `-1.500000000` is half a second before the epoch.
- xattrs: `user.*` without `user.overlay.*`, `security.capability` and POSIX ACLs, sorted.
- same: the first path with the same (device, inode); only where a file has several names in the
  tree. Names outside the tree do not count.
- Of one layer's own directory the marks of overlayfs that say "opaque" may be listed too.
- Left out: access and change times, inode numbers, link counts, sizes of directories, and all
  other xattrs. Mounts below the root are walked like directories.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Final

from snapcore.archive.descent import Descent
from snapcore.errors import FailedPrecondition, from_os_error
from snapcore.oci import Digest
from snapcore.oci.whiteout import WhiteoutStyle

VERSION_LINE: Final = "#snapcore-tree 1"
_READ_SIZE: Final = 256 * 1024
_NANOSECONDS: Final = 1_000_000_000
_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_XATTRS: Final = (errno.ENOTSUP, errno.ENOSYS)
_XATTRS: Final = frozenset(
    {"security.capability", "system.posix_acl_access", "system.posix_acl_default"}
)
_MARKS: Final = frozenset(style.opaque_xattr for style in WhiteoutStyle)
_TYPES: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
_ESCAPES: Final = tuple(
    chr(byte) if 0x21 <= byte <= 0x7E and byte != 0x5C else f"\\x{byte:02x}" for byte in range(256)
)


@dataclass(frozen=True, slots=True)
class TreeDigest:
    """What a tree comes down to.

    Attributes:
        digest: of the listing.
        entries: names in the tree, the root included.
        size: bytes of all files, each inode once.
    """

    digest: Digest
    entries: int
    size: int


@dataclass(slots=True)
class _Level:
    """A directory on the way down: what is still to visit in it, last first."""

    names: list[bytes]
    path: bytes


@dataclass(slots=True)
class _Walk:
    marks: bool = False
    first: dict[tuple[int, int], bytes] = field(default_factory=dict)
    entries: int = 0
    size: int = 0


def tree_digest(root: str | bytes) -> TreeDigest:
    """Return the digest of the directory tree at `root`, see the module for what it covers.

    Raises:
        NotFound: there is no such directory.
        FailedPrecondition: it is no directory, or it changed while it was read.
        PermissionDenied: something in it cannot be read by this user.
        DataLoss: the medium failed.
    """
    walk = _Walk()
    hasher = hashlib.sha256()
    for line in _lines(os.fsencode(root), walk):
        hasher.update(line.encode())
        hasher.update(b"\n")
    return TreeDigest(Digest("sha256", hasher.hexdigest()), walk.entries, walk.size)


def tree_listing(root: str | bytes, *, marks: bool = False) -> Generator[str, None, None]:
    """Yield the listing's lines, without newlines; `tree_digest` is the sha256 of them.

    Args:
        root: the tree.
        marks: list overlayfs's opaque marks too: the tree is one layer's own directory.

    Raises:
        SnapcoreError: as `tree_digest`.
    """
    return _lines(os.fsencode(root), _Walk(marks))


def _lines(root: bytes, walk: _Walk) -> Generator[str, None, None]:
    path = root
    try:
        tree = Descent(root)
        try:
            yield VERSION_LINE
            yield _root_line(tree.descriptor, walk)
            levels = [_level(tree, b"")]
            while levels:
                level = levels[-1]
                if not level.names:
                    levels.pop()
                    if levels:
                        tree.up()
                    continue
                name = level.names.pop()
                path = level.path + name
                found = tree.status(name)
                yield _line(path, name, found, tree.descriptor, walk)
                if stat.S_ISDIR(found.st_mode):
                    tree.down(name)
                    levels.append(_level(tree, path + b"/"))
        finally:
            tree.close()
    except OSError as error:
        raise from_os_error(error, f"digest of {root!r}, at {path[:200]!r}") from error


def _level(tree: Descent, path: bytes) -> _Level:
    return _Level(sorted(tree.names(), reverse=True), path)


def _root_line(directory: int, walk: _Walk) -> str:
    walk.entries += 1
    return " ".join(
        (
            ".",
            *_common(os.fstat(directory)),
            *_xattrs(f"/proc/self/fd/{directory}", walk, follow=True),
        )
    )


def _line(path: bytes, name: bytes, found: os.stat_result, directory: int, walk: _Walk) -> str:
    walk.entries += 1
    shown = _escaped(path)
    words = [shown, *_common(found)]
    kind = stat.S_IFMT(found.st_mode)
    first = _first_path(path, found, walk)
    if kind == stat.S_IFLNK:
        words.append(f"target={_escaped(os.readlink(name, dir_fd=directory))}")
    elif kind == stat.S_IFREG:
        words.extend(_content(name, found, directory, walk, again=first is not None))
    else:
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            words.append(f"device={os.major(found.st_rdev)}:{os.minor(found.st_rdev)}")
        words.extend(_xattrs(b"/proc/self/fd/%d/%s" % (directory, name), walk, follow=False))
    if first is not None:
        words.append(f"same={_escaped(first)}")
    return " ".join(words)


def _first_path(path: bytes, found: os.stat_result, walk: _Walk) -> bytes | None:
    if found.st_nlink < 2 or stat.S_ISDIR(found.st_mode):
        return None
    first = walk.first.setdefault((found.st_dev, found.st_ino), path)
    return None if first == path else first


def _common(found: os.stat_result) -> tuple[str, str, str, str]:
    seconds, nanoseconds = divmod(found.st_mtime_ns, _NANOSECONDS)
    return (
        _TYPES[stat.S_IFMT(found.st_mode)],
        f"{stat.S_IMODE(found.st_mode):04o}",
        f"{found.st_uid}:{found.st_gid}",
        f"{seconds}.{nanoseconds:09d}",
    )


def _content(
    name: bytes, found: os.stat_result, directory: int, walk: _Walk, *, again: bool
) -> Iterator[str]:
    descriptor = os.open(name, _OPEN_FILE, dir_fd=directory)
    try:
        opened = os.fstat(descriptor)
        if (opened.st_dev, opened.st_ino) != (found.st_dev, found.st_ino):
            raise FailedPrecondition(f"file {name[:200]!r} was replaced while it was read")
        hasher, size = hashlib.sha256(), 0
        while block := os.read(descriptor, _READ_SIZE):
            hasher.update(block)
            size += len(block)
        if not again:
            walk.size += size
        yield f"size={size}"
        yield f"sha256={hasher.hexdigest()}"
        yield from _xattrs(descriptor, walk, follow=True)
    finally:
        os.close(descriptor)


def _xattrs(place: int | str | bytes, walk: _Walk, *, follow: bool) -> list[str]:
    try:
        names = os.listxattr(place, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return []
        raise
    return [
        f"xattr.{_escaped(os.fsencode(name)).replace('=', chr(92) + 'x3d')}"
        f"={os.getxattr(place, name, follow_symlinks=follow).hex()}"
        for name in sorted(names, key=os.fsencode)
        if name in _XATTRS
        or (name.startswith("user.") and not name.startswith("user.overlay."))
        or (walk.marks and name in _MARKS)
    ]


def _escaped(raw: bytes) -> str:
    text = raw.decode("ascii", "replace")
    if text.isascii() and text.isprintable() and " " not in text and "\\" not in text:
        return text
    return "".join([_ESCAPES[byte] for byte in raw])
