"""eStargz blobs for tests: written by the Go library of stargz-snapshotter, or by hand.

The library is Debian's `golang-github-containerd-stargz-snapshotter-dev`, compiled once a test
session. What it never writes (damage, lies, members shared by several files) is made by `sealed`
from a table and members.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from snapcore.archive import Limits
from snapcore.oci import Digest
from snapcore_fuse.formats import BlobRange, LayerSource
from snapcore_fuse.formats.estargz import EstargzIndex, open_estargz
from support.golang import go_program
from support.images import run_tool

LIMITS: Final = Limits()
GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
PACKAGE: Final = "golang-github-containerd-stargz-snapshotter-dev"
_SOURCE: Final = Path(__file__).resolve().parents[2] / "plugins/fuse/tests/estargz"
_LIBRARY: Final = Path("github.com/containerd/stargz-snapshotter/estargz")


@dataclass(frozen=True, slots=True)
class Estargz:
    """A blob.

    Attributes:
        blob: its bytes.
        toc_digest: of its table of contents.
        diff_id: of the tar that it unpacks to.
    """

    blob: bytes
    toc_digest: Digest
    diff_id: Digest


def estargz_writer(factory: pytest.TempPathFactory) -> Path:
    """Return the compiled writer; skip the calling test where Go or the library is missing."""
    return go_program(factory, _SOURCE, ("build", "main.go"), _LIBRARY, PACKAGE)


def go_estargz(
    writer: Path, tar: Path, *, chunk: int = 4 << 20, prioritized: Sequence[str] = ()
) -> Estargz:
    """Return a tar as the Go library writes it.

    Args:
        writer: see `estargz_writer`.
        tar: plain or gzip.
        chunk: most bytes of a file in one member.
        prioritized: files that come first, before a prefetch landmark.
    """
    blob = tar.with_name(f"{tar.name}.esgz")
    digests = run_tool(str(writer), str(tar), str(blob), str(chunk), *prioritized).split()
    toc_digest, diff_id = map(Digest.parse, digests)
    return Estargz(blob.read_bytes(), toc_digest, diff_id)


def footer(offset: int, *, legacy: bool = False) -> bytes:
    """Return the footer for a table at `offset`: 51 bytes, or the 47 of CRFS."""
    text = b"%016xSTARGZ" % offset
    extra = text if legacy else b"SG" + len(text).to_bytes(2, "little") + text
    head = b"\x1f\x8b\x08\x04" + bytes(4) + b"\x00\xff" + len(extra).to_bytes(2, "little")
    return head + extra + b"\x01\x00\x00\xff\xff" + bytes(8)


def table_member(table: bytes, name: str = "stargz.index.json") -> bytes:
    """Return the gzip member of a table."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.size = len(table)
        tar.addfile(info, io.BytesIO(table))
    return gzip.compress(packed.getvalue(), 6, mtime=0)


def sealed(
    members: bytes, entries: Sequence[Mapping[str, Any]] | bytes, *, legacy: bool = False
) -> Estargz:
    """Return a blob of these members with a table of contents and a footer behind them.

    Args:
        members: gzip members of files.
        entries: the table's entries, or the whole table.
        legacy: write the 47-byte footer.
    """
    table = (
        entries
        if isinstance(entries, bytes)
        else json.dumps({"version": 1, "entries": list(entries)}).encode()
    )
    blob = members + table_member(table) + footer(len(members), legacy=legacy)
    return Estargz(blob, Digest.of(table), Digest.of(gzip.decompress(blob)))


def source_of(layer: Estargz) -> LayerSource:
    """Return what a manifest and a config say of a blob."""
    return LayerSource(Digest.of(layer.blob), len(layer.blob), GZIP, layer.diff_id)


def open_blob(
    layer: Estargz, limits: Limits = LIMITS, reads: list[BlobRange] | None = None
) -> EstargzIndex:
    """Open a blob, and note in `reads` what is read of it."""
    steps = open_estargz(source_of(layer), layer.toc_digest, limits)
    wanted = next(steps)
    while True:
        if reads is not None:
            reads.append(wanted)
        try:
            wanted = steps.send(layer.blob[wanted.offset : wanted.end])
        except StopIteration as done:
            found: EstargzIndex = done.value
            return found
