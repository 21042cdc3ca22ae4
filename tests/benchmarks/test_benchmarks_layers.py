"""The benchmark's own layers: what an overlay's upper directory becomes as a tar."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from benchmarks.layers import write_layer


def _names(top: Path, below: tuple[str, ...] = ()) -> tuple[int, list[tarfile.TarInfo]]:
    out = io.BytesIO()
    entries = write_layer(top, out, below.__contains__)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        return entries, archive.getmembers()


def test_directories_above_a_file_are_entries_before_it(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(b"content")
    (tmp_path / "a/link").symlink_to("b")
    entries, members = _names(tmp_path)
    assert [member.name for member in members] == ["a", "a/link", "a/b", "a/b/file"]
    assert (entries, members[-1].size, members[1].linkname) == (4, 7, "b")


def test_a_second_name_of_an_inode_is_a_hard_link_without_content(tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(b"one inode")
    os.link(tmp_path / "first", tmp_path / "second")
    _, members = _names(tmp_path)
    assert [(m.name, m.islnk(), m.linkname, m.size) for m in members] == [
        ("first", False, "", 9),
        ("second", True, "first", 0),
    ]


@pytest.mark.needs_root
def test_whiteouts_and_opaque_marks_become_entries(tmp_path: Path) -> None:
    for name in ("replaced", "new"):
        (tmp_path / name).mkdir()
        os.setxattr(tmp_path / name, "trusted.overlay.opaque", b"y")
    os.mknod(tmp_path / "replaced/gone", stat.S_IFCHR, os.makedev(0, 0))
    _, members = _names(tmp_path, below=("replaced",))
    assert [member.name for member in members] == [
        "new",
        "replaced",
        "replaced/.wh..wh..opq",
        "replaced/.wh.gone",
    ]
