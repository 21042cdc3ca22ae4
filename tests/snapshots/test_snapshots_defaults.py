from __future__ import annotations

from pathlib import Path

import pytest

from snapcore.errors import DataLoss, FailedPrecondition, NotFound
from snapcore.mount import Mount
from snapcore.oci import WhiteoutStyle
from snapcore.snapshots import rootsync
from snapcore.snapshots.defaults import layer_from_view, target_from_mounts
from snapcore.snapshots.flush import flush_store
from snapcore.snapshots.metastore import MetaStore
from snapcore.snapshots.rootsync import RootSync
from snapcore.snapshots.types import FlushReport, Kind, LayerTarget, Mounts, State, Usage

UPPER = ("workdir=/w", "upperdir=/up")


@pytest.mark.parametrize(
    ("mount", "target"),
    [
        (Mount("bind", "/dir", options=("rbind", "rw")), LayerTarget("/dir")),
        (Mount("", "/dir", options=("rbind",)), LayerTarget("/dir")),
        (
            Mount("overlay", "overlay", options=(*UPPER, "lowerdir=/near:/far")),
            LayerTarget("/up", ("/near", "/far"), WhiteoutStyle.OVERLAY),
        ),
        (
            Mount("overlay", "overlay", options=("userxattr", *UPPER, r"lowerdir=/a\:b:/c\\d")),
            LayerTarget("/up", ("/a:b", r"/c\d"), WhiteoutStyle.OVERLAY_USER),
        ),
    ],
)
def test_targets_that_mounts_tell(mount: Mount, target: LayerTarget) -> None:
    assert target_from_mounts((mount,)) == target


@pytest.mark.parametrize(
    "mounts",
    [
        (Mount("bind", "/dir", options=("rbind", "ro")),),
        (Mount("bind", "/dir", target="inside", options=("rbind",)),),
        (Mount("bind", "/a", options=("rbind",)), Mount("bind", "/b", "b", ("rbind",))),
        (Mount("overlay", "overlay", options=("lowerdir=/a:/b",)),),
        (Mount("overlay", "overlay", options=UPPER),),
        (Mount("overlay", "overlay", options=(*UPPER, "lowerdir=/a::/data")),),
        (Mount("overlay", "overlay", options=(*UPPER, "lowerdir=/a", "lowerdir+=/b")),),
        (Mount("ext4", "/dev/loop0"),),
        (),
    ],
)
def test_all_other_mounts_are_for_core_to_mount(mounts: Mounts) -> None:
    assert target_from_mounts(mounts) == LayerTarget("", mounts=mounts)


@pytest.mark.parametrize(
    ("mounts", "layer"),
    [
        ((Mount("bind", "/dir", options=("rbind", "ro")),), "/dir"),
        ((Mount("overlay", "overlay", options=(r"lowerdir=/a\:b:/c", "ro")),), "/a:b"),
        ((Mount("overlay", "overlay", options=(*UPPER, "lowerdir=/a:/b")),), ""),
        ((Mount("overlay", "overlay", options=("lowerdir=/a::/data",)),), ""),
        ((Mount("bind", "/dir", target="inside", options=("rbind",)),), ""),
        ((Mount("erofs", "/dev/loop0"),), ""),
        ((), ""),
    ],
)
def test_the_own_layer_that_a_views_mounts_tell(mounts: Mounts, layer: str) -> None:
    assert layer_from_view(mounts) == layer


def test_flush_makes_durable_what_was_committed_before(tmp_path: Path, census: None) -> None:
    store = MetaStore(str(tmp_path))
    store.record(store.reserve(Kind.ACTIVE, "k", "", {}))
    store.commit(store.check_commit("n", "k"), {}, Usage())
    assert flush_store(store) == FlushReport(synced=1, made_durable=1)
    assert store.stat("n").state is State.DURABLE
    assert flush_store(store) == FlushReport(synced=1, made_durable=0)
    store.close()


def test_what_is_committed_during_the_sync_stays_pending(
    tmp_path: Path, census: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MetaStore(str(tmp_path))
    store.record(store.reserve(Kind.ACTIVE, "k", "", {}))

    def sync(descriptor: int) -> None:
        store.commit(store.check_commit("n", "k"), {}, Usage())

    monkeypatch.setattr(rootsync, "syncfs", sync)
    assert flush_store(store).made_durable == 0
    assert store.stat("n").state is State.PENDING
    store.close()


def test_a_failed_sync_is_data_loss_and_breaks_what_was_pending(
    tmp_path: Path, census: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    store = MetaStore(str(tmp_path))
    store.record(store.reserve(Kind.ACTIVE, "k", "", {}))
    store.commit(store.check_commit("n", "k"), {}, Usage())
    monkeypatch.setattr(rootsync, "syncfs", fail)
    with pytest.raises(DataLoss, match=str(tmp_path)):
        flush_store(store)
    assert store.stat("n").state is State.BROKEN
    store.close()


def test_a_root_to_sync_must_be_there_and_open(tmp_path: Path, census: None) -> None:
    with pytest.raises(NotFound):
        RootSync(str(tmp_path / "missing"))
    medium = RootSync(str(tmp_path))
    medium.sync()
    medium.close()
    medium.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        medium.sync()
