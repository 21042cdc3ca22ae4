"""A directory as a layer's tar, as builders write it.

The directory is the lowest layer itself or an overlayfs upper directory, whose whiteouts and
opaque marks become entries (OCI image-spec, layer.md). Directories above a change are entries
too: an upper directory has them, with all their attributes.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

_OPAQUE: Final = "trusted.overlay.opaque"
_KEPT: Final = ("user.", "security.capability", "system.posix_acl_")


def write_layer(top: Path, out: BinaryIO, is_below: Callable[[str], bool]) -> int:
    """Write everything below a directory.

    Args:
        top: the directory; itself no entry.
        out: gets the tar.
        is_below: tells whether a lower layer has a directory at a path. Only then is an opaque
            mark written: overlayfs puts one on every directory that is new.

    Returns:
        How many entries were written.
    """
    seen: dict[tuple[int, int], str] = {}
    entries = 0
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, status in _walk(top):
            for member in _members(top, path, status, seen, is_below):
                entries += 1
                if member.isreg() and member.size:
                    with (top / path).open("rb") as content:
                        archive.addfile(member, content)
                else:
                    archive.addfile(member)
    return entries


def _walk(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    for directory, names, files in os.walk(top):
        names.sort()
        relative = os.path.relpath(directory, top)
        if relative != ".":
            yield relative, os.lstat(directory)
        links = [name for name in names if (Path(directory) / name).is_symlink()]
        for name in sorted([*files, *links]):
            path = os.path.join(directory, name)
            yield os.path.relpath(path, top), os.lstat(path)


def _members(
    top: Path,
    path: str,
    status: os.stat_result,
    seen: dict[tuple[int, int], str],
    is_below: Callable[[str], bool],
) -> Iterator[tarfile.TarInfo]:
    directory, name = os.path.split(path)
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        yield tarfile.TarInfo(os.path.join(directory, f".wh.{name}"))
        return
    member = _member(top / path, path, status)
    first = seen.setdefault((status.st_dev, status.st_ino), path)
    if first != path and not member.isdir():
        member.type, member.linkname, member.size = tarfile.LNKTYPE, first, 0
    yield member
    if member.isdir() and _is_opaque(top / path) and is_below(path):
        yield tarfile.TarInfo(f"{path}/.wh..wh..opq")


def _member(place: Path, path: str, status: os.stat_result) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.mode = stat.S_IMODE(status.st_mode)
    member.uid, member.gid = status.st_uid, status.st_gid
    # Whole seconds, as builders write them.
    member.mtime = int(status.st_mtime)
    if stat.S_ISDIR(status.st_mode):
        member.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(status.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(place)
    elif stat.S_ISREG(status.st_mode):
        member.size = status.st_size
    else:
        character = stat.S_ISCHR(status.st_mode)
        fifo = stat.S_ISFIFO(status.st_mode)
        member.type = (
            tarfile.CHRTYPE if character else tarfile.FIFOTYPE if fifo else tarfile.BLKTYPE
        )
        member.devmajor, member.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    member.pax_headers = _xattr_records(place)
    return member


def _xattr_records(place: Path) -> dict[str, str]:
    return {
        f"SCHILY.xattr.{key}": os.getxattr(place, key, follow_symlinks=False).decode(
            "utf-8", "surrogateescape"
        )
        for key in os.listxattr(place, follow_symlinks=False)
        if key.startswith(_KEPT)
    }


def _is_opaque(directory: Path) -> bool:
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError:
        return False
