"""Removal by descriptors: any depth, any mode, and never what was moved in between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.layers import opened

from snapcore.archive import remove
from snapcore.errors import FailedPrecondition


def test_two_thousand_levels_go_with_few_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, census: None
) -> None:
    with opened(str(tmp_path)) as top:
        here = os.dup(top)
        for _ in range(2000):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
            os.close(os.open("file", os.O_CREAT, dir_fd=here))
        os.close(here)
        most, real = 0, os.open

        def counting(*arguments: object, **keywords: object) -> int:
            nonlocal most
            descriptor: int = real(*arguments, **keywords)  # type: ignore[arg-type]
            most = max(most, descriptor)
            return descriptor

        monkeypatch.setattr(os, "open", counting)
        remove.remove_name(top, b"d")
        assert most < top + 10
    assert os.listdir(tmp_path) == []


def test_children_go_and_the_directory_stays(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/f").touch()
    (tmp_path / "l").symlink_to("/etc")
    os.mkfifo(tmp_path / "p")
    with opened(str(tmp_path)) as top:
        remove.remove_children(top)
    assert os.listdir(tmp_path) == []


def test_symlinks_go_and_not_what_they_name(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target/f").touch()
    (tmp_path / "d").mkdir()
    (tmp_path / "d/l").symlink_to("../target")
    with opened(str(tmp_path)) as top:
        remove.remove_name(top, b"d")
    assert (tmp_path / "target/f").exists()


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with opened(str(tmp_path)) as top, pytest.raises(FileNotFoundError):
        remove.remove_name(top, b"nothing")


def test_a_directory_moved_meanwhile_stops_the_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, census: None
) -> None:
    (tmp_path / "victim/a/b").mkdir(parents=True)
    (tmp_path / "victim/a/b/last").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious").touch()
    real = os.unlink

    def moving(name: bytes, *, dir_fd: int) -> None:
        real(name, dir_fd=dir_fd)
        os.rename(tmp_path / "victim/a/b", tmp_path / "elsewhere/b")

    monkeypatch.setattr(os, "unlink", lambda name, dir_fd: (
        moving(name, dir_fd=dir_fd) if name == b"last" else real(name, dir_fd=dir_fd)
    ))  # fmt: skip
    with opened(str(tmp_path)) as top, pytest.raises(FailedPrecondition, match="moved"):
        remove.remove_name(top, b"victim")
    assert (tmp_path / "elsewhere/precious").exists()
