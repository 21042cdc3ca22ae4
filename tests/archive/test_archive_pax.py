"""PAX records: exact values, and what overrides what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tars

from snapcore.archive import pax
from snapcore.errors import RefusedInput


def refuse(why: str) -> RefusedInput:
    return RefusedInput(why)


def parsed(*records: tuple[bytes, bytes]) -> pax.Pax:
    return pax.parse(b"".join(tars.pax_record(*record) for record in records), refuse)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        (b"0", 0),
        (b"1.5", 1_500_000_000),
        (b"-1.5", -1_500_000_000),
        (b"-0.000000001", -1),
        (b"1700000000.123456789", 1_700_000_000_123_456_789),
        (b"1700000000.1234567891999", 1_700_000_000_123_456_789),
        (b"0.000000000999", 0),
        (b"-0.0", 0),
        (b"9007199254740993.000000001", 9_007_199_254_740_993_000_000_001),
    ],
)
def test_times_are_exact(text: bytes, nanoseconds: int) -> None:
    assert parsed((b"mtime", text)).mtime == nanoseconds


@pytest.mark.parametrize("text", [b" 1", b"1 ", b"+1", b".5", b"1.5.5", b"--1", b"1e3", b"0x1"])
def test_other_times_are_refused(text: bytes) -> None:
    with pytest.raises(RefusedInput, match="not a time"):
        parsed((b"mtime", text))


def test_last_of_two_records_wins() -> None:
    found = parsed((b"path", b"a"), (b"uid", b"1"), (b"path", b"b"), (b"uid", b"2"))
    assert (found.path, found.uid) == (b"b", 2)


def test_an_empty_value_is_refused_where_readers_differ() -> None:
    for key in (b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"):
        with pytest.raises(RefusedInput, match=key.decode()):
            parsed((key, b""))


def test_an_xattr_may_be_empty() -> None:
    assert parsed((b"SCHILY.xattr.user.empty", b"")).xattrs == {b"user.empty": b""}


def test_what_layers_do_not_use_is_ignored() -> None:
    found = parsed(
        (b"atime", b"junk"),
        (b"ctime", b"junk"),
        (b"uname", b"a\0b"),
        (b"gname", b"x"),
        (b"comment", b"c"),
        (b"hdrcharset", b"BINARY"),
        (b"LIBARCHIVE.xattr.user.a", b"eA=="),
        (b"LIBARCHIVE.creationtime", b"1"),
        (b"SCHILY.acl.access", b"user::rwx"),
    )
    assert found == pax.Pax(None, None, None, None, None, None, {})


@given(st.binary(max_size=300))
def test_xattr_values_are_raw(value: bytes) -> None:
    assert parsed((b"SCHILY.xattr.user.a=b"[:19], value)).xattrs == {b"user.a": value}


@given(st.integers(1, 300))
def test_lengths_around_a_new_digit(size: int) -> None:
    assert parsed((b"path", b"n" * size), (b"uid", b"7")).uid == 7


@given(st.binary(max_size=60))
def test_any_body_is_parsed_or_refused(body: bytes) -> None:
    try:
        found = pax.records(body, refuse)
    except RefusedInput:
        return
    assert b"".join(tars.pax_record(*record) for record in found) == body


def test_most_records_pass() -> None:
    assert len(pax.records(b"5 a=\n" * 4096, refuse)) == 4096
