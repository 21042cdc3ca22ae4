"""The verified reader: no end without the right bytes."""

from __future__ import annotations

import errno
import io
from typing import Final

import pytest

from snapcore.content import VerifiedReader
from snapcore.errors import DataLoss, DigestMismatch
from snapcore.oci import Digest

DATA: Final = b"0123456789" * 1000


def reader(data: bytes, *, size: int | None = None, digest: Digest | None = None) -> VerifiedReader:
    return VerifiedReader(
        io.BytesIO(data), digest or Digest.of(DATA), len(DATA) if size is None else size
    )


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_right_bytes_reach_the_end(algorithm: str) -> None:
    with reader(DATA, digest=Digest.of(DATA, algorithm)) as source:
        assert source.read(7) == DATA[:7]
        assert source.offset == 7
        assert source.read() == DATA[7:]
        assert source.read(1) == b""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (DATA[:-1], "9999 bytes instead of 10000"),
        (DATA + b"x", "more than the 10000 bytes"),
        (b"x" + DATA[1:], "the bytes have digest sha256:"),
    ],
)
def test_wrong_bytes_do_not(data: bytes, reason: str) -> None:
    with reader(data) as source:
        with pytest.raises(DigestMismatch, match=reason):
            source.readall()
        with pytest.raises(DigestMismatch, match=reason):
            source.read(1)
        with pytest.raises(DigestMismatch, match=reason):
            source.verify()
        source.close()


def test_a_byte_too_many_is_refused_before_the_end() -> None:
    source = reader(DATA + b"x" * 10**6)
    with pytest.raises(DigestMismatch):
        source.read(len(DATA) + 1)
    source.close()


def test_leaving_the_block_early_verifies_the_rest() -> None:
    with reader(DATA) as source:
        source.read(1)
    with pytest.raises(DigestMismatch), reader(DATA[:-1] + b"x") as source:
        source.read(1)


def test_an_exception_in_the_block_is_not_replaced() -> None:
    with pytest.raises(KeyError), reader(b"wrong"):
        raise KeyError


def test_close_after_exactly_all_bytes_looks_at_the_end() -> None:
    source = reader(DATA + b"trailing")
    source.read(len(DATA))
    with pytest.raises(DigestMismatch):
        source.close()
    assert source.closed


def test_close_before_the_end_verifies_nothing() -> None:
    source = reader(b"wrong")
    source.read(2)
    source.close()
    source.close()
    with pytest.raises(ValueError, match="closed"):
        source.read(1)


def test_reading_nothing_is_not_the_end() -> None:
    source = reader(DATA)
    assert source.readinto(bytearray()) == 0
    source.close()


def test_a_failing_medium_is_data_loss() -> None:
    class Broken(io.BytesIO):
        def readinto(self, buffer: object, /) -> int:
            raise OSError(errno.EIO, "Input/output error")

    source = VerifiedReader(Broken(), Digest.of(DATA), 5)
    with pytest.raises(DataLoss, match="reading sha256:"):
        source.read(1)
    source.close()
