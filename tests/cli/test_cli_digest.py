"""`digest`: what it prints, and that the listing is what is digested."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.cli import call

from snapcore.archive import tree_digest
from snapcore.oci import Digest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a tree with a name that no terminal should see."""
    top = tmp_path / "tree"
    top.mkdir()
    (top / "file").write_bytes(b"data")
    with open(os.fsencode(top) + b"/\x1b[31m\xff", "wb"):
        pass
    return top


def test_digest(tree: Path) -> None:
    expected = tree_digest(str(tree))
    assert call("digest", str(tree)).out == f"{expected.digest}\n"
    assert call("digest", str(tree), "--format", "json").record() == {
        "digest": str(expected.digest),
        "entries": 3,
        "bytes": 4,
    }


def test_listing_is_what_is_digested(tree: Path) -> None:
    listing = call("digest", "--list", str(tree)).out
    assert "\x1b" not in listing
    assert Digest.of(listing.encode()) == tree_digest(str(tree)).digest


def test_no_directory(tree: Path) -> None:
    for place in (tree / "none", tree / "file"):
        outcome = call("digest", str(place))
        assert (outcome.code, outcome.out) == (2, "")
        assert str(place) in outcome.err
