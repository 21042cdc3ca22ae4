"""Digests: only registered algorithms, exact length, lower-case."""

from __future__ import annotations

import hashlib

import pytest

from snapcore.errors import InvalidArgument
from snapcore.oci import Digest, new_hasher


def test_parse_round_trip() -> None:
    text = "sha256:" + "0123456789abcdef" * 4
    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "sha256:" + "a" * 63 + "\n",
        "sha512:" + "a" * 64,
        "md5:" + "a" * 32,
        "sha256:../../../../etc/passwd",
        "SHA256:" + "a" * 64,
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(InvalidArgument, match="not a digest"):
        Digest.parse(text)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_of_and_hasher_agree_with_hashlib(algorithm: str) -> None:
    digest = Digest.of(b"snapcore", algorithm)
    assert digest.hex == hashlib.new(algorithm, b"snapcore").hexdigest()
    hasher = digest.hasher()
    hasher.update(b"snap")
    hasher.update(memoryview(b"core"))
    assert hasher.hexdigest() == digest.hex


def test_unknown_hasher() -> None:
    with pytest.raises(InvalidArgument, match="md5"):
        new_hasher("md5")
