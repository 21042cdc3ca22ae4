"""eStargz: tables and footers that lie are refused, and the entry is named."""

from __future__ import annotations

import base64
import gzip
from typing import Any, TypeAlias

import pytest
from support.stargz import Estargz, footer, open_blob, sealed, table_member

from snapcore.archive import Limits
from snapcore.errors import RefusedInput
from snapcore.oci import Digest

Value: TypeAlias = str | int | dict[str, str] | list[int] | None


def refused(entries: list[dict[str, Any]], match: str, members: bytes = b"") -> None:
    layer = sealed(members or gzip.compress(bytes(1000)) * 3, entries)
    with pytest.raises(RefusedInput, match=match):
        open_blob(layer)


DIGEST = str(Digest.of(b"x" * 10))
MEMBER = len(gzip.compress(bytes(1000)))


def reg(**changed: Value) -> dict[str, Any]:
    return {"name": "it", "type": "reg", "size": 10, "offset": MEMBER, "chunkDigest": DIGEST,
            **changed}  # fmt: skip


def chunk(**changed: Value) -> dict[str, Any]:
    return {"type": "chunk", "offset": 2 * MEMBER, "chunkOffset": 5, "chunkDigest": DIGEST,
            **changed}  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([reg(name="../it")], r"'\.\./it'.*'\.\.' in a name"),
        ([reg(name="a/../it")], "'..' in a name"),
        ([reg(name="i\0t")], "NUL"),
        ([reg(name="it/")], "ends in '/'"),
        ([reg(name="")], "the root as a file"),
        ([reg(name="n" * 300)], "longer than 255"),
        ([reg(name="caf\ufffd")], "no UTF-8"),
        ([reg(type="zeros")], "unknown entry type"),
        ([reg(size=-1)], "-1 bytes of data"),
        ([reg(size=2**62)], "bytes of data"),
        ([reg(size=2**70)], "bytes of data"),
        ([reg(uid=-1)], "owner -1"),
        ([reg(gid=2**32)], "owner 0:4294967296"),
        ([reg(mode=-1)], "mode"),
        ([reg(modtime="yesterday")], "no time"),
        ([reg(modtime="2024-02-30T00:00:00Z")], "no time"),
        ([reg(xattrs={"": "eA=="})], "valid name"),
        ([reg(xattrs={"user.x": "no base64!"})], "malformed xattrs"),
        ([reg(xattrs=[1])], "malformed xattrs"),
        ([reg(xattrs={"user.x": base64.b64encode(bytes(2 << 20)).decode()})], "more than"),
        ([reg(type="dir", name="d")], "a directory with 10 bytes"),
        ([reg(type="symlink", size=0)], "a symlink to nothing"),
        ([reg(type="symlink", size=0, linkName="x" * 5000)], "longer than 4095"),
        ([reg(type="hardlink", size=0, linkName="../x")], "'..' in a name"),
        ([reg(type="hardlink", size=0, linkName="/")], "hardlink to the root"),
        ([reg(type="char", size=0)], "whiteout"),
        ([reg(type="char", size=0, devMajor=5000)], "device number"),
        ([reg(type="block", size=0, devMinor=-1)], "device number"),
        ([reg(offset=-1)], "chunk at byte -1"),
        ([reg(offset=0)], "chunk at byte 0"),
        ([reg(offset=2**62)], "chunk at byte 4611686018427387904"),
        ([reg(offset=3 * MEMBER)], "chunk at byte"),
        ([reg(innerOffset=-5)], "-5 of its member"),
        ([reg(innerOffset=2**62)], "bytes of one member"),
        ([reg(size=65 << 20)], "bytes of one member"),
        ([reg(), reg(name="other")], "'other'.*behind one"),
        ([reg(), reg(name="other", innerOffset=9)], "behind one"),
        ([reg(offset=2 * MEMBER), reg(name="other", offset=MEMBER)], "behind one"),
        ([reg(chunkDigest="")], "no digest"),
        ([reg(chunkDigest="md5:" + "0" * 32)], "no sha256"),
        ([reg(chunkDigest=DIGEST.upper())], "no sha256"),
        ([reg(chunkDigest="sha256:" + "0" * 62 + "  ")], "no sha256"),
        ([reg(chunkDigest="sha256:" + "x" * 64)], "malformed"),
        ([reg(chunkDigest=str(Digest.of(b"", "sha512")))], "no sha256"),
        ([reg(digest=DIGEST, chunkDigest="", chunkSize=5), chunk()], "no digest"),
        ([reg(chunkSize=5)], "no chunk covers its last 5 bytes"),
        ([reg(chunkSize=5), reg(name="other", offset=2 * MEMBER)], "covers its last 5 bytes"),
        ([reg(chunkSize=11)], "a chunk of 11 bytes"),
        ([reg(chunkSize=-1)], "a chunk of -1 bytes"),
        ([reg(chunkOffset=1)], "at byte 1"),
        ([reg(chunkSize=5), chunk(chunkOffset=4)], "at byte 4"),
        ([reg(chunkSize=5), chunk(chunkOffset=6)], "at byte 6"),
        ([reg(chunkSize=5), chunk(chunkSize=6)], "a chunk of 6 bytes"),
        ([reg(chunkSize=5), chunk(chunkDigest="")], "no digest"),
        ([reg(chunkSize=5), chunk(offset=MEMBER)], "behind one"),
        ([reg(chunkSize=5), chunk(name="other")], "a chunk of 'other'"),
        ([reg(), chunk()], "has its bytes already"),
        ([chunk()], "has its bytes already"),
    ],
)  # fmt: skip
def test_a_hostile_table_is_refused_and_the_entry_named(
    entries: list[dict[str, Any]], match: str
) -> None:
    refused(entries, match)


def test_budgets_of_entries_and_bytes() -> None:
    layer = sealed(gzip.compress(bytes(1000)) * 3, [reg(), reg(name="b", offset=2 * MEMBER)])
    open_blob(layer, Limits(entries=2, size=20))
    with pytest.raises(RefusedInput, match="more than 1 entries"):
        open_blob(layer, Limits(entries=1))
    with pytest.raises(RefusedInput, match="more than 19 bytes"):
        open_blob(layer, Limits(size=19))


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (b"", "malformed"),
        (b"[]", "malformed"),
        (b'{"version":2,"entries":[]}', "version 2"),
        (b'{"entries":[]}', "malformed"),
        (b'{"version":1,"entries":[7]}', "malformed"),
        (b'{"version":1,"entries":[{"name":"a","type":"reg","size":"1"}]}', "malformed"),
        (b'{"version":1,"entries":[{"name":"\\ud800","type":"dir"}]}', "malformed"),
        (b'{"version":1,"entries":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "malformed"),
        (b'{"version":1,"entries":[' + b"{}," * 100_000 + b"{}]}", "too many objects"),
    ],
    ids=[
        "empty",
        "list",
        "version",
        "no-version",
        "number",
        "text-size",
        "surrogate",
        "deep",
        "tiny",
    ],
)
def test_a_malformed_table_is_refused(table: bytes, match: str) -> None:
    with pytest.raises(RefusedInput, match=match):
        open_blob(sealed(gzip.compress(b"x"), table))


def with_table(table: bytes, offset: int | None = None, name: str = "stargz.index.json") -> Estargz:
    members = gzip.compress(bytes(100))
    tail = footer(len(members) if offset is None else offset)
    return Estargz(members + table_member(table, name) + tail, Digest.of(table), Digest.of(b""))


EMPTY = b'{"version":1,"entries":[]}'


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        (Estargz(b"", Digest.of(b""), Digest.of(b"")), "no eStargz footer"),
        (Estargz(bytes(10), Digest.of(b""), Digest.of(b"")), "no eStargz footer"),
        (Estargz(gzip.compress(bytes(9999)), Digest.of(b""), Digest.of(b"")), "no eStargz footer"),
        (with_table(EMPTY, 2**62), "puts a table"),
        (with_table(EMPTY, 10**6), "puts a table"),
        (with_table(EMPTY, 0), "no table of contents"),
        (with_table(EMPTY, 5), "damaged"),
        (with_table(EMPTY, name="other.json"), "no table of contents"),
    ],
    ids=["nothing", "tiny", "plain", "beyond", "behind", "elsewhere", "inside", "name"],
)  # fmt: skip
def test_a_footer_that_leads_nowhere_is_refused(layer: Estargz, match: str) -> None:
    with pytest.raises(RefusedInput, match=match):
        open_blob(layer)


def test_the_table_is_the_one_that_the_manifest_names() -> None:
    layer = with_table(EMPTY)
    other = Estargz(layer.blob, Digest.of(EMPTY + b" "), layer.diff_id)
    with pytest.raises(RefusedInput, match=str(other.toc_digest)):
        open_blob(other)


def test_a_table_past_the_cap_is_refused_before_it_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("snapcore_fuse.formats.estargz.toc.MAX_JSON", 1000)
    open_blob(with_table(EMPTY + b" " * (1000 - len(EMPTY))))
    with pytest.raises(RefusedInput, match="1001 bytes of data"):
        open_blob(with_table(EMPTY + b" " * (1001 - len(EMPTY))))
