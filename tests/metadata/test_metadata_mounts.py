"""Records of mounted images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snapcore.errors import AlreadyExists, NotFound
from snapcore.linux import boot_id, mount_namespace
from snapcore.metadata import Metadata, MountStore, Place, open_metadata


@pytest.fixture
def metadata(tmp_path: Path, census: None) -> Iterator[Metadata]:
    opened = open_metadata(str(tmp_path))
    yield opened
    opened.close()


def test_a_mount_is_recorded_and_forgotten(metadata: Metadata) -> None:
    mounts = metadata.mounts
    record = mounts.put("/mnt", "image:1", "overlay", "mount-1", rw=True)
    assert record.place == Place(boot_id(), mount_namespace())
    assert record.rw is True
    assert mounts.get("/mnt") == record
    assert mounts.list() == (record,)
    mounts.delete("/mnt")
    for call in (mounts.get, mounts.delete):
        with pytest.raises(NotFound, match="'/mnt'"):
            call("/mnt")


def test_one_snapshot_is_recorded_once(metadata: Metadata) -> None:
    metadata.mounts.put("/a", "image", "overlay", "key", rw=False)
    metadata.mounts.put("/a", "image", "native", "key", rw=False)
    with pytest.raises(AlreadyExists, match="'key' of 'overlay'"):
        metadata.mounts.put("/b", "image", "overlay", "key", rw=False)


def test_the_newest_record_of_a_directory_counts_and_older_ones_stay(metadata: Metadata) -> None:
    mounts = metadata.mounts
    old = mounts.put("/mnt", "image", "overlay", "old", rw=False)
    new = mounts.put("/mnt", "image", "overlay", "new", rw=False)
    other = mounts.put("/a", "image", "overlay", "other", rw=False)
    assert mounts.list() == (other, old, new)
    assert mounts.get("/mnt") == new
    mounts.delete("/mnt")
    assert mounts.get("/mnt") == old


@pytest.mark.parametrize("place", [Place("boot", 2), Place("other", 1)])
def test_other_places_are_listed_only(metadata: Metadata, place: Place) -> None:
    here = MountStore(metadata.database, Place("boot", 1))
    there = MountStore(metadata.database, place)
    record = there.put("/mnt", "image", "overlay", "key", rw=False)
    with pytest.raises(NotFound):
        here.get("/mnt")
    with pytest.raises(NotFound):
        here.delete("/mnt")
    assert here.list() == (record,)
    here.forget(record)
    here.forget(record)
    assert there.list() == ()
