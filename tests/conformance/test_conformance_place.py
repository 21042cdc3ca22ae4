"""The directory of a check is deleted, and nothing that somebody has mounted in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.cli import call

from snapcore.conformance import MemoryState, Outcome, Result, Subject, open_memory
from snapcore.conformance.checks import ALL_CHECKS
from snapcore.conformance.harness import Check, Harness
from snapcore.conformance.place import delete_place, empty_place
from snapcore.conformance.run import run_check
from snapcore.errors import FailedPrecondition
from snapcore.linux import MountFlag, UnmountFlag, mount, umount
from snapcore.mount import mounts_below

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("census")]


@pytest.fixture
def treasure(tmp_path: Path) -> Path:
    """A directory of somebody else, beside the place and on the same filesystem."""
    path = tmp_path / "somebody else's"
    path.mkdir()
    (path / "file").write_text("precious")
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "place"
    path.mkdir()
    return path


def _bind(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    mount(str(source), str(target), "", MountFlag.BIND, "")


def _leaking(treasure: Path) -> Check:
    """A check whose snapshotter leaves a mount in its work directory."""
    plain = next(check for check in ALL_CHECKS if not check.mounts)

    def leak(harness: Harness) -> None:
        _bind(treasure, Path(harness.work, "deep/er"))

    return replace(plain, function=leak)


def test_leaked_mounts_are_unmounted_before_anything_is_deleted(
    place: Path, treasure: Path
) -> None:
    for target in (place / "a", place / "a/inside", place / "a", place / "b"):
        _bind(treasure, target)
        (target / "inside").mkdir(exist_ok=True)
    with open(place / "b/file") as in_use:
        empty_place(str(place))
        assert in_use.read() == "precious"
    assert (os.listdir(place), mounts_below(str(place))) == ([], ())
    assert (treasure / "file").read_text() == "precious"


def test_a_place_that_is_a_mount_point_itself_stays_one(place: Path, treasure: Path) -> None:
    mount("tmpfs", str(place), "tmpfs", MountFlag(0), "")
    try:
        _bind(treasure, place / "a")
        empty_place(str(place))
        assert [entry.target for entry in mounts_below(str(place))] == [str(place)]
    finally:
        umount(str(place), UnmountFlag.DETACH)


def test_what_is_mounted_over_a_place_of_ours_goes(place: Path, treasure: Path) -> None:
    _bind(treasure, place)
    delete_place(str(place))
    assert not place.exists()
    assert (treasure / "file").read_text() == "precious"


@pytest.mark.parametrize("delete", [empty_place, delete_place])
def test_nothing_is_deleted_while_something_stays_mounted(
    delete: Callable[[str], None], place: Path, treasure: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_target: str, _flags: UnmountFlag) -> None:
        raise PermissionError(1, "not here")

    _bind(treasure, place / "a")
    (place / "own").touch()
    monkeypatch.setattr("snapcore.conformance.place.umount", refuse)
    with pytest.raises(FailedPrecondition, match=rf"'{place}/a' is still mounted.*'{place}'"):
        delete(str(place))
    assert sorted(os.listdir(place)) == ["a", "own"]
    assert (treasure / "file").read_text() == "precious"
    umount(str(place / "a"), UnmountFlag.DETACH)


def test_a_check_that_leaks_a_mount_harms_nobody(place: Path, treasure: Path) -> None:
    state = MemoryState()
    subject = Subject(lambda root: open_memory(state, root), mountable=False, installed=False)
    assert run_check(_leaking(treasure), subject, str(place)).outcome is Outcome.PASSED
    assert (os.listdir(place), mounts_below(str(place))) == ([], ())
    assert (treasure / "file").read_text() == "precious"


def test_the_command_line_deletes_nothing_through_a_mount(
    place: Path, treasure: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leak(check: Check, _subject: Subject, inside: str, _seconds: float) -> Result:
        _bind(treasure, Path(inside).parent / "elsewhere")
        return Result(check.name, Outcome.PASSED)

    monkeypatch.setattr("snapcore.conformance.run.run_check", leak)
    done = call("conformance", "native", "--only", "stat", "--root", str(place))
    assert (done.code, os.listdir(place), mounts_below(str(place))) == (0, [], ()), done.err
    assert (treasure / "file").read_text() == "precious"
