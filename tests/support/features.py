"""What images of the parity tests may have: edits, ways to say them, and ways to write that."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import TypeAlias


class Feature(StrEnum):
    """What an image may have beside added and changed files; the value says it in words."""

    REMOVED = "files and directories removed"
    REPLACED = "replaced by another kind"
    RECREATED = "directory removed and made again"
    EMPTIED = "directory emptied"
    RENAMED = "renamed"
    LINKED = "hard links, over layers too"
    STALE = "hard links with attributes of their own"
    ATTRIBUTES = "mode, owner or time changed"
    XATTRS = "xattrs"
    ROOT = "an entry for the root"
    NAMES = "odd names"
    SPECIAL = "devices and FIFOs"
    TIMES = "fractions and times before 1970"
    IDS = "large ids"
    SHUFFLED = "entries in any order"
    TWICE = "entries twice, the last one counts"
    IMPLIED = "directories without an entry"
    LATE = "whiteouts after entries"
    OPAQUE = "opaque marks"
    SPARE = "whiteouts of nothing"
    THROUGH = "through symlinked directories"
    UNCHANGED = "unchanged files again"
    LEFTOVERS = "leftovers of AUFS"
    GNU = "GNU tar"
    USTAR = "ustar and v7 tar"
    PAX = "all in PAX records"
    PREFIXES = "names with ./ or /"
    ENDS = "ends of archives"
    MEMBERS = "gzip of several members"
    ZSTD = "zstd, of several frames too"
    PLAIN = "not compressed"


Features: TypeAlias = Collection[Feature]
"""Those of one image."""
