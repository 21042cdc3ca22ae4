"""Chain IDs against the specification's recurrence, written out by hand."""

from __future__ import annotations

import hashlib

from snapcore.oci import Digest, chain_id, chain_ids


def test_no_layers_is_the_empty_parent() -> None:
    assert chain_id(()) == ""
    assert chain_ids(()) == ()


def test_first_chain_id_is_the_diff_id() -> None:
    diff = Digest.of(b"a")
    assert chain_ids([diff]) == (diff,)


def test_recurrence() -> None:
    a, b, c = (Digest.of(x) for x in (b"a", b"b", b"c"))
    second = "sha256:" + hashlib.sha256(f"{a} {b}".encode()).hexdigest()
    third = "sha256:" + hashlib.sha256(f"{second} {c}".encode()).hexdigest()
    assert [str(d) for d in chain_ids([a, b, c])] == [str(a), second, third]
    assert chain_id([a, b, c]) == third


def test_a_prefix_has_the_same_names() -> None:
    diffs = [Digest.of(bytes([n])) for n in range(20)]
    assert chain_ids(diffs)[:7] == chain_ids(diffs[:7])
