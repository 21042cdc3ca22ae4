"""A digest of a directory tree, written apart from snapcore's own: nobody wins by doing less."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tree:
    """What was found below a directory.

    Attributes:
        entries: files, directories and links, the top itself left out.
        size: bytes of regular files, each name counted.
        digest: sha256 over paths, types, modes, owners, times, link targets and contents.
    """

    entries: int
    size: int
    digest: str


def tree(top: str) -> Tree:
    """Read a whole tree and describe it."""
    whole = hashlib.sha256()
    entries = size = 0
    for directory, names, files in os.walk(os.fsencode(top)):
        names.sort()
        for name in sorted([*names, *files]):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            whole.update(os.path.relpath(path, os.fsencode(top)) + b"\0")
            whole.update(_line(path, status).encode() + b"\n")
            entries += 1
            size += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return Tree(entries, size, whole.hexdigest())


def _line(path: bytes, status: os.stat_result) -> str:
    line = f"{status.st_mode:o} {status.st_uid}:{status.st_gid} {status.st_mtime_ns}"
    if stat.S_ISLNK(status.st_mode):
        return f"{line} {os.readlink(path)!r}"
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{line} {status.st_nlink} {content}"
    return f"{line} {status.st_rdev}"
