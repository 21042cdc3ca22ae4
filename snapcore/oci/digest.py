"""Digests: `<algorithm>:<lower-case hex>`, parsed before they are used for anything.

Only registered algorithms with their exact length pass (OCI image-spec, descriptor.md,
"Registered Algorithms"): a digest becomes part of paths and URLs, so nothing else may.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol

from snapcore.errors import InvalidArgument

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+\Z")


class Hasher(Protocol):
    """The part of a `hashlib` object that snapcore uses."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take more bytes in."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far, in lower-case hex."""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A parsed, registered digest.

    Attributes:
        algorithm: `sha256` or `sha512`.
        hex: lower-case hexadecimal of the algorithm's exact length.
    """

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Parse `algorithm:hex`.

        Raises:
            InvalidArgument: unknown algorithm, wrong length, or not lower-case hex.
        """
        algorithm, _, value = text.partition(":")
        length = _HEX_LENGTH.get(algorithm)
        if length is None or len(value) != length or not _HEX.match(value):
            raise InvalidArgument(
                f"not a digest: {text[:200]!r}"
                " (want sha256:<64 hex> or sha512:<128 hex>, lower-case)"
            )
        return cls(algorithm, value)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """Return the digest of `data`."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def hasher(self) -> Hasher:
        """Return a fresh hasher of this digest's algorithm."""
        return new_hasher(self.algorithm)


def new_hasher(algorithm: str = "sha256") -> Hasher:
    """Return a fresh hasher.

    Raises:
        InvalidArgument: the algorithm is not registered.
    """
    if algorithm not in _HEX_LENGTH:
        raise InvalidArgument(f"unknown digest algorithm: {algorithm[:100]!r}")
    return hashlib.new(algorithm)
