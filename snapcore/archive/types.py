"""The values of the archive room: tar entries, budgets, and what applying a layer reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

import msgspec

from snapcore.oci import Digest
from snapcore.oci.whiteout import WhiteoutStyle


class EntryType(StrEnum):
    """What a tar entry makes."""

    FILE = "file"
    HARDLINK = "hardlink"
    SYMLINK = "symlink"
    CHARACTER = "character"
    BLOCK = "block"
    DIRECTORY = "directory"
    FIFO = "fifo"


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One tar entry after its long-name and PAX records were applied; a msgspec.Struct for speed.

    Attributes:
        path: components of the effective name; no "", "." or ".."; () is the root itself.
        type: what it makes.
        mode: permission bits, setuid, setgid and sticky (0o7777).
        uid: 0 … 2**32 - 2.
        gid: 0 … 2**32 - 2.
        mtime: nanoseconds since the epoch, may be negative.
        size: bytes of payload; 0 unless type is FILE.
        link: a symlink's target as it is, or a hard link's name (still a raw name; () semantics
            are the applier's).
        link_path: components of a hard link's target, () otherwise.
        major: device number; 0 unless a device.
        minor: device number; 0 unless a device.
        xattrs: raw name and value pairs of `SCHILY.xattr.*` records, unfiltered.
        offset: position of the entry's first header in the uncompressed stream.
    """

    path: tuple[bytes, ...]
    type: EntryType
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    link: bytes
    link_path: tuple[bytes, ...]
    major: int
    minor: int
    xattrs: tuple[tuple[bytes, bytes], ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Budgets of one layer; going past one refuses the layer.

    Attributes:
        size: most uncompressed bytes.
        entries: most tar entries.
        ratio: most uncompressed bytes for each compressed one, once past `ratio_free`. Source code
            and text come to 20, gzip can reach 1032 and zstd much more, with zeros alone.
        ratio_free: uncompressed bytes that are allowed at any ratio: a file of zeros is no attack
            while it is small beside a disk.
        depth: most components of a path.
        pax: most bytes of one PAX or long-name record block.
        window: most bytes of zstd window memory.
        members: most gzip members or zstd frames.
    """

    size: int = 1 << 40
    entries: int = 10_000_000
    ratio: int = 200
    ratio_free: int = 1 << 30
    depth: int = 2048
    pax: int = 1 << 20
    window: int = 128 << 20
    members: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a layer goes, as descriptors that the worker was given.

    Attributes:
        directory: the directory to write into.
        lower: root of the merged tree below it, read-only; None if `directory` shows the merged
            tree itself (style APPLY) or there is nothing below.
        style: how deletions are written.
        base: nothing is below: an unmentioned root directory gets fixed attributes (0755, 0:0,
            time 0) instead of keeping those it has.
    """

    directory: int
    lower: int | None
    style: WhiteoutStyle
    base: bool


@dataclass(frozen=True, slots=True)
class Expected:
    """What the manifest and config say of a layer.

    Attributes:
        digest: of the blob.
        size: of the blob.
        diff_id: digest of the uncompressed tar.
    """

    digest: Digest
    size: int
    diff_id: Digest


@dataclass(frozen=True, slots=True)
class LayerResult:
    """What applying one layer did.

    Attributes:
        entries: tar entries read.
        size: uncompressed bytes.
        skipped: what was left out on purpose, by reason (`xattr:trusted.…`, `device`, …).
    """

    entries: int
    size: int
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ApplyPolicy:
    """What happens to what needs privilege.

    Attributes:
        ids: keep owners as the layer says, or squash them all to who applies it (owners changed
            so are counted, and file capabilities are left out).
        devices: make device nodes, or skip and count them.
    """

    ids: Literal["keep", "squash"] = "keep"
    devices: Literal["keep", "skip"] = "keep"


class WhiteoutsFirst(Exception):
    """A signal, not a failure, and so not in the error tree.

    A deletion came after something that it may change; or an entry cannot be applied to the
    tree as it is, which a deletion still to come may change. The target is spoilt: apply the
    layer again to a fresh one with `whiteouts_first`.
    """


class InOrder(Exception):
    """A signal, not a failure, and so not in the error tree.

    A layer, or what remains to do with it, cannot be applied apart from the layers below it with
    a certain result. The target is spoilt: apply the layer to a fresh one over its parents.
    """


class Steps(Protocol):
    """What a worker asks of its parent while it applies a layer."""

    def mark_opaque(self, directory: int) -> None:
        """Mark an open directory opaque in the destination's style (may need CAP_SYS_ADMIN)."""

    def progress(self, read: int) -> None:
        """Say how many compressed bytes have been read so far."""
