"""Id maps: how they are read, what they say, and what goes together."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from snapcore.errors import InvalidArgument
from snapcore.mount import IdMap, Mount, mount_all, temporary_mount, unmount
from snapcore.mount.idmap import take_mapping


def test_a_map_is_read_and_written_back() -> None:
    text = "0:100000:1000,1000:300000:1000"
    ids = IdMap.parse(text)
    assert str(ids) == text
    assert ids.lines() == "0 100000 1000\n1000 300000 1000\n"
    assert [ids.outside(number) for number in (0, 999, 1000)] == [100_000, 100_999, 300_000]
    with pytest.raises(InvalidArgument, match="id 2000 is not in the id map"):
        ids.outside(2000)


@pytest.mark.parametrize(
    "text", ["", "1:2", "a:0:1", "0:0:0", "-1:0:1", "0:4294967294:2", "0:0:1,"]
)
def test_bad_maps(text: str) -> None:
    with pytest.raises(InvalidArgument, match="id map"):
        IdMap.parse(text)


def test_maps_are_taken_out_of_the_options_and_go_together() -> None:
    plain, mapping = take_mapping(
        Mount("bind", "/a", options=("ro", "uidmap=0:1:2", "gidmap=0:3:4"))
    )
    assert plain.options == ("ro",)
    assert mapping is not None
    assert mapping.options == ("uidmap=0:1:2", "gidmap=0:3:4")
    with pytest.raises(InvalidArgument, match="go together"):
        mount_all((Mount("bind", "/", options=("bind", "uidmap=0:1:2")),), "/nowhere")


@pytest.mark.needs_root
def test_the_mount_point_of_a_moment_is_where_the_caller_says(
    tmp_path: Path, census: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("1", "2", "upper", "work", "merged", "state"):
        (tmp_path / name).mkdir()
    options = (
        "uidmap=0:100000:10",
        "gidmap=0:100000:10",
        f"lowerdir={tmp_path}/1:{tmp_path}/2",
        f"upperdir={tmp_path}/upper",
        f"workdir={tmp_path}/work",
    )
    overlay = Mount("overlay", "overlay", options=options)
    monkeypatch.setattr(tempfile, "tempdir", "/not/there")
    mount_all((overlay,), str(tmp_path / "merged"), str(tmp_path / "state"))
    unmount(str(tmp_path / "merged"))
    with temporary_mount((overlay,), str(tmp_path / "state")) as merged:
        assert os.path.dirname(merged) == str(tmp_path / "state")
        assert os.listdir(tmp_path / "state") == [os.path.basename(merged)]
    assert os.listdir(tmp_path / "state") == []
