"""The table of contents: taken out of its member, verified, and parsed into typed entries.

Source: docs/estargz.md of stargz-snapshotter, "TOC"; estargz/types.go for field names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from snapcore.archive import DAMAGED, BlockReader, Entry, Limits, TarReader, fastest_inflater
from snapcore.errors import RefusedInput
from snapcore.oci import Digest

TOC_DIGEST: Final = "containerd.io/snapshot/stargz/toc.digest"
"""Annotation of a layer: the digest of the uncompressed table."""
TOC_NAME: Final = b"stargz.index.json"
MAX_JSON: Final = 128 << 20
"""Most uncompressed bytes of a table; about 380,000 files."""
_MAX_STEP: Final = 1 << 20
_VERSION: Final = 1
_LEAST_OBJECT: Final = 40
_FREE_OBJECTS: Final = 64


class TocEntry(msgspec.Struct, gc=False, rename="camel"):
    """One entry as it is written; the names are those of the format."""

    type: str
    name: str = ""
    size: int = 0
    modtime: str = ""
    link_name: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    dev_major: int = 0
    dev_minor: int = 0
    # Not parsed with the rest: a table of nothing but xattrs would take many times its size.
    xattrs: msgspec.Raw = msgspec.Raw()
    digest: str = ""
    offset: int = 0
    inner_offset: int = 0
    chunk_offset: int = 0
    chunk_size: int = 0
    chunk_digest: str = ""


class _Toc(msgspec.Struct):
    version: int
    entries: list[TocEntry] | None


@dataclass(frozen=True, slots=True)
class Table:
    """A table of contents, which is itself the last file of the layer's tar.

    Attributes:
        entries: what it lists.
        entry: its own, from the tar header in front of it.
        inner: where its bytes begin in its uncompressed member.
        sha256: of its bytes.
    """

    entries: list[TocEntry]
    entry: Entry
    inner: int
    sha256: bytes


def read_table(member: bytes, digest: Digest) -> Table:
    """Return a table of contents.

    Args:
        member: the gzip member that holds the table, as a tar of one file.
        digest: of the uncompressed table, from the manifest.

    Raises:
        RefusedInput: damaged, too large, not what the digest says, or malformed.
    """
    entry, inner, table = _extract(member)
    if hashlib.new(digest.algorithm, table).hexdigest() != digest.hex:
        raise RefusedInput(
            f"the eStargz table of contents is not {str(digest)!r}, which the manifest names"
        )
    # An object takes far more memory than the two bytes that it can be written in.
    if table.count(b"{") > len(table) // _LEAST_OBJECT + _FREE_OBJECTS:
        raise RefusedInput("too many objects in the eStargz table of contents for its size")
    try:
        toc = msgspec.json.decode(table, type=_Toc)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RefusedInput(f"malformed eStargz table of contents: {error}") from error
    if toc.version != _VERSION:
        raise RefusedInput(f"eStargz table of contents of version {toc.version}; want {_VERSION}")
    return Table(toc.entries or [], entry, inner, hashlib.sha256(table).digest())


def _extract(member: bytes) -> tuple[Entry, int, bytes]:
    """Return the table's own entry, where its bytes begin, and these."""
    blocks = _inflate(member)
    stream = BlockReader(lambda: next(blocks, b""))
    reader = TarReader(stream, Limits(entries=1, size=MAX_JSON))
    try:
        entry = next(reader, None)
        if entry is None or entry.path != (TOC_NAME,):
            raise RefusedInput(f"its name is {entry.path if entry else ()!r}")
        inner = stream.position
        table = b"".join(reader.payload())
        next(reader, None)
    except RefusedInput as error:
        raise RefusedInput(
            f"no table of contents where the eStargz footer says: {error}"
        ) from error
    return entry, inner, table


def _inflate(member: bytes) -> Iterator[bytes]:
    """Yield the uncompressed bytes; the tar reader stops asking where a budget ends."""
    inflater = fastest_inflater()
    try:
        block = inflater.decompress(member, _MAX_STEP)
        while block or not (inflater.eof or inflater.needs_input):
            yield block
            block = b"" if inflater.eof else inflater.decompress(b"", _MAX_STEP)
    except DAMAGED as error:
        raise RefusedInput(f"it is damaged: {error}") from error
    if not inflater.eof:
        raise RefusedInput("it is cut off")
