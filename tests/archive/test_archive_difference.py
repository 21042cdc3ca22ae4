"""Two listings of a tree, compared line by line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from snapcore.archive import Difference, differences, tree_listing

FILE = "file 0644 0:0 1.000000000 size=1 sha256=aa"
DIRECTORY = "directory 0755 0:0 1.000000000"


def compare(left: Sequence[str], right: Sequence[str]) -> list[tuple[str, str, str, str]]:
    return [(d.path, d.kind, d.recorded, d.found) for d in differences(left, right)]


def test_equal_listings() -> None:
    lines = ["#version", f". {DIRECTORY}", f"a {FILE}"]
    assert compare(lines, lines) == []
    assert compare([], []) == []


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("0644", "0600", [("mode", "0644", "0600")]),
        ("0:0", "1:0", [("owner", "0:0", "1:0")]),
        ("1.000000000", "2.000000000", [("time", "1.000000000", "2.000000000")]),
        ("sha256=aa", "sha256=bb", [("content", "aa", "bb")]),
        ("size=1 sha256=aa", "size=2 sha256=bb", [("size", "1", "2")]),
        ("sha256=aa", "sha256=aa same=b", [("link", "", "b")]),
        ("sha256=aa", "sha256=aa xattr.user.x=00", [("xattr.user.x", "", "00")]),
        ("file 0644", "fifo 0644", [("type", "file", "fifo")]),
        ("0644 0:0", "0600 1:1", [("mode", "0644", "0600"), ("owner", "0:0", "1:1")]),
    ],
)
def test_what_differs_is_named(old: str, new: str, found: list[tuple[str, str, str]]) -> None:
    changed = FILE.replace(old, new)
    assert compare([f"a {FILE}"], [f"a {changed}"]) == [("a", *each) for each in found]


def test_what_is_inside_a_directory_goes_with_it() -> None:
    left = [f". {DIRECTORY}", f"a {DIRECTORY}", f"a/x {FILE}", f"a/x2 {FILE}", f"ab {FILE}"]
    right = [f". {DIRECTORY}", f"b {DIRECTORY}", f"b/x {FILE}"]
    assert compare(left, right) == [
        ("a", "missing", "directory", ""),
        ("ab", "missing", "file", ""),
        ("b", "extra", "", "directory"),
    ]


def test_the_order_is_that_of_raw_bytes_component_by_component(tmp_path: Path) -> None:
    names = [b"a", b"a/b", b"a-b", b"a.b", b"a b", b"\xff", b"\\", b"~", b"x\ny"]
    root = os.fsencode(tmp_path / "tree")
    for name in names:
        path = os.path.join(root, name)
        if name == b"a":
            os.makedirs(path)
        else:
            with open(path, "wb"):
                pass
    lines = list(tree_listing(root))
    for left_out in range(2, len(lines)):
        without = lines[:left_out] + lines[left_out + 1 :]
        inside = [line for line in without if line.startswith(f"{lines[left_out].split()[0]}/")]
        without = [line for line in without if line not in inside]
        shown = lines[left_out].split(" ")[0]
        (missing,) = differences(lines, without)
        assert missing == Difference(shown, "missing", lines[left_out].split(" ")[1], "")
        (extra,) = differences(without, lines)
        assert extra == Difference(shown, "extra", "", lines[left_out].split(" ")[1])


def test_of_what_became_something_else_nothing_else_is_told() -> None:
    tree = [f"a {DIRECTORY}", f"a/x {FILE}", f"a/y {FILE}", f"b {FILE}"]
    file = [f"a {FILE}", f"b {FILE}"]
    assert compare(tree, file) == [("a", "type", "directory", "file")]
    assert compare(file, tree) == [("a", "type", "file", "directory")]
