"""The audit wrapper around a real snapshotter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapcore.errors import NotFound, SnapcoreError
from snapcore.snapshots import Snapshotter, open_snapshotter

NAMES = ("call", "key", "outcome")


@pytest.fixture
def native(tmp_path: Path) -> Iterator[Snapshotter]:
    opened = open_snapshotter("native", str(tmp_path), wrappers=("audit",))
    yield opened
    opened.close()


def _lines(root: Path) -> list[tuple[str, ...]]:
    lines = map(json.loads, (root / "audit.jsonl").read_text().splitlines())
    return [tuple(line[name] for name in NAMES) for line in lines]


def test_every_change_is_written_down_with_its_outcome(native: Snapshotter, tmp_path: Path) -> None:
    native.prepare("key", "")
    native.commit("name", "key")
    native.stat("name")
    with pytest.raises(NotFound):
        native.remove("nothing")
    assert _lines(tmp_path) == [
        ("prepare", "key", "begun"),
        ("prepare", "key", "done"),
        ("commit", "key", "begun"),
        ("commit", "key", "done"),
        ("remove", "nothing", "begun"),
        ("remove", "nothing", "NotFound"),
    ]
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_down_is_not_done(native: Snapshotter, tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").symlink_to(tmp_path)
    with pytest.raises(SnapcoreError, match="cannot write the audit"):
        native.prepare("key", "")
    with pytest.raises(NotFound):
        native.stat("key")
