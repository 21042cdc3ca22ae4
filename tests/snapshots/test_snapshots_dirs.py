from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapcore.errors import AlreadyExists, NotFound, ResourceExhausted, SnapcoreError
from snapcore.snapshots.dirs import SnapshotDirs, creating
from snapcore.snapshots.hookspecs import no_checkpoint
from snapcore.snapshots.metastore import MetaStore
from snapcore.snapshots.types import Kind, Reclaimed, Usage


class Cancelled(BaseException):
    pass


@pytest.fixture
def store(tmp_path: Path, census: None) -> Iterator[MetaStore]:
    opened = MetaStore(str(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def dirs(store: MetaStore) -> SnapshotDirs:
    return SnapshotDirs(store.root)


def make(
    store: MetaStore, dirs: SnapshotDirs, key: str, failure: BaseException | None = None
) -> int:
    with creating(store, dirs, Kind.ACTIVE, key, "", {}) as draft:
        Path(draft.directory, "file").write_text(key)
        if failure:
            raise failure
    return draft.id


def test_creating(store: MetaStore, dirs: SnapshotDirs) -> None:
    base = make(store, dirs, "b")
    store.commit(store.check_commit("base", "b"), {}, Usage())
    with creating(store, dirs, Kind.VIEW, "k", "base", {"a": "1"}) as draft:
        assert draft.parents == (base,)
        assert os.stat(draft.directory).st_mode & 0o777 == 0o700
        with pytest.raises(NotFound):
            store.stat("k")
        Path(draft.directory, "file").touch()
    assert (store.get("k").id, store.stat("k").labels) == (draft.id, {"a": "1"})
    assert os.listdir(dirs.path(draft.id)) == ["file"]
    assert sorted(os.listdir(dirs.directory)) == [str(base), str(draft.id)]


@pytest.mark.parametrize("failure", [Cancelled(), ResourceExhausted("full"), OSError("x")])
def test_a_failed_creation_leaves_nothing(
    store: MetaStore, dirs: SnapshotDirs, failure: BaseException
) -> None:
    with pytest.raises(type(failure)):
        make(store, dirs, "k", failure=failure)
    assert not os.listdir(dirs.directory)
    assert not store.ids().reserved
    assert not store.walk((), "", 9).infos


def test_a_creation_that_comes_second_leaves_the_first_alone(
    store: MetaStore, dirs: SnapshotDirs
) -> None:
    with (
        pytest.raises(AlreadyExists),
        creating(store, dirs, Kind.ACTIVE, "k", "", {}),
    ):
        first = make(store, dirs, "k")
    assert os.listdir(dirs.directory) == [str(first)]
    assert store.ids().recorded == {first}
    assert not store.ids().reserved


def test_an_interrupt_after_recording_keeps_the_snapshot(
    store: MetaStore, dirs: SnapshotDirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = MetaStore.record

    def interrupted(self: MetaStore, *args: object) -> None:
        record(self, *args)  # type: ignore[arg-type]
        raise Cancelled

    monkeypatch.setattr(MetaStore, "record", interrupted)
    with pytest.raises(Cancelled):
        make(store, dirs, "k")
    number = store.get("k").id
    assert os.listdir(dirs.path(number)) == ["file"]


def test_retire_and_delete(store: MetaStore, dirs: SnapshotDirs) -> None:
    number = make(store, dirs, "k")
    store.remove("k")
    assert dirs.retire(number)
    assert not dirs.retire(number)
    assert os.listdir(dirs.directory) == [f"rm-{number}"]
    assert dirs.delete(number, no_checkpoint) > 0
    assert dirs.delete(number, no_checkpoint) == 0
    assert not os.listdir(dirs.directory)


def test_errors_name_the_directory(store: MetaStore, dirs: SnapshotDirs) -> None:
    dirs.create(7)
    with pytest.raises(SnapcoreError, match="new-7"):
        dirs.create(7)
    with pytest.raises(NotFound, match="snapshots/8"):
        dirs.publish(8)


def crash_after(root: str, step: str) -> None:
    """Run the ritual in a child that is killed after one step, and nothing is undone."""
    child = os.fork()
    if not child:
        store = MetaStore(root)
        dirs = SnapshotDirs(root)
        reservation = store.reserve(Kind.ACTIVE, "crashed", "", {})
        if step != "reserve":
            path = dirs.create(reservation.id)
            Path(path, "file").write_bytes(b"x" * 10_000)
        if step in ("publish", "record", "remove", "retire"):
            dirs.publish(reservation.id)
        if step in ("record", "remove", "retire"):
            store.record(reservation)
        if step in ("remove", "retire"):
            store.remove("crashed")
        if step == "retire":
            dirs.retire(reservation.id)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("step", "directories", "reservations"),
    [
        ("reserve", 0, 1),
        ("create", 1, 1),
        ("publish", 1, 1),
        ("remove", 1, 0),
        ("retire", 1, 0),
    ],
)
def test_sweep_deletes_what_a_crash_left(
    tmp_path: Path, step: str, directories: int, reservations: int
) -> None:
    crash_after(str(tmp_path), step)
    store = MetaStore(str(tmp_path))
    dirs = SnapshotDirs(str(tmp_path))
    kept = make(store, dirs, "kept")
    reclaimed = dirs.sweep(store, no_checkpoint)
    assert (reclaimed.directories, reclaimed.reservations) == (directories, reservations)
    assert (reclaimed.size >= 10_000) == bool(directories)
    assert os.listdir(dirs.directory) == [str(kept)]
    assert not store.ids().reserved
    assert len(os.listdir(tmp_path / "owner")) == 1
    assert dirs.sweep(store, no_checkpoint) == Reclaimed()
    store.close()


def test_sweep_keeps_what_was_recorded(tmp_path: Path) -> None:
    crash_after(str(tmp_path), "record")
    store = MetaStore(str(tmp_path))
    dirs = SnapshotDirs(str(tmp_path))
    assert dirs.sweep(store, no_checkpoint) == Reclaimed()
    assert os.listdir(dirs.path(store.get("crashed").id)) == ["file"]
    store.close()


def test_sweep_leaves_the_living_and_the_strange_alone(
    store: MetaStore, dirs: SnapshotDirs, tmp_path: Path
) -> None:
    other = MetaStore(store.root)
    strange = ["new-", "rm-x", "lost+found", "٣", "-1", "12x"]
    for name in strange:
        (tmp_path / "snapshots" / name).mkdir()
    with creating(other, dirs, Kind.ACTIVE, "k", "", {}) as draft:
        assert dirs.sweep(store, no_checkpoint) == Reclaimed()
        assert os.path.isdir(draft.directory)
    assert sorted(os.listdir(dirs.directory)) == sorted([*strange, str(draft.id)])
    other.close()


def test_sweep_lists_directories_before_records(
    store: MetaStore, dirs: SnapshotDirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    listdir = os.listdir
    made: list[int] = []

    def slow(path: str) -> list[str]:
        names = listdir(path)
        if path == dirs.directory and not made:
            # Made after the listing; with records read earlier it would count as unowned.
            made.append(make(store, dirs, "late"))
            names = listdir(path)
        return names

    monkeypatch.setattr(os, "listdir", slow)
    assert dirs.sweep(store, no_checkpoint) == Reclaimed()
    assert listdir(dirs.directory) == [str(made[0])]


def test_sweep_stops_at_a_checkpoint(store: MetaStore, dirs: SnapshotDirs) -> None:
    for key in "ab":
        number = make(store, dirs, key)
        store.remove(key)
        dirs.retire(number)

    def cancel() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        dirs.sweep(store, cancel)
    assert len(os.listdir(dirs.directory)) == 2
    assert dirs.sweep(store, no_checkpoint).directories == 2
