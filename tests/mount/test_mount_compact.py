"""Overlay options that are longer than a page."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snapcore.errors import FailedPrecondition
from snapcore.mount import Mount, temporary_mount
from snapcore.mount.compact import compact_lowers


def test_lowers_become_relative_to_their_common_directory() -> None:
    assert compact_lowers("index=off,lowerdir=/r/s/2/fs:/r/s/1/fs,upperdir=/r/s/3/fs") == (
        "/r/s",
        "index=off,lowerdir=2/fs:1/fs,upperdir=/r/s/3/fs",
    )


def test_an_escaped_colon_does_not_end_a_name() -> None:
    assert compact_lowers(r"lowerdir=/r/a\:b/fs:/r/c/fs") == ("/r", r"lowerdir=a\:b/fs:c/fs")


@pytest.mark.parametrize("data", ["", "index=off", "lowerdir=a:/b", "lowerdir=/a:/b"])
def test_what_cannot_be_shortened_is_left(data: str) -> None:
    assert compact_lowers(data) is None


def _overlay(directory: Path, count: int) -> Mount:
    lowers = []
    for number in range(count):
        lower = directory / ("long-name-" * 6) / str(number) / "fs"
        lower.mkdir(parents=True)
        (lower / str(number)).touch()
        lowers.append(str(lower))
    return Mount("overlay", "overlay", options=("ro", "lowerdir=" + ":".join(lowers)))


@pytest.mark.needs_root
def test_128_layers_with_long_names_mount_and_nobody_changes_directory(
    tmp_path: Path, census: None
) -> None:
    before = os.getcwd()
    with temporary_mount((_overlay(tmp_path, 128),), str(tmp_path)) as target:
        assert len(os.listdir(target)) == 128
    assert os.getcwd() == before


@pytest.mark.needs_root
def test_more_layers_than_the_kernel_takes_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(FailedPrecondition, match="501 lower directories; the kernel takes 500"),
        temporary_mount((_overlay(tmp_path, 501),), str(tmp_path)),
    ):
        pass
