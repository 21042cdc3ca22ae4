"""Id maps of snapshots: what labels ask for, and what records refuse because of them."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
from support.metastores import commit, committed, create

from snapcore import labels as label_keys
from snapcore.errors import FailedPrecondition, InvalidArgument
from snapcore.snapshots import Kind, SnapshotterSpec, id_mapping
from snapcore.snapshots.defaults import DefaultTarget
from snapcore.snapshots.metastore import MetaStore

_UIDS, _GIDS = label_keys.SNAPSHOT_UIDMAP, label_keys.SNAPSHOT_GIDMAP
_MAPS = {_UIDS: "0:100000:10", _GIDS: "0:200000:10"}


def test_labels_ask_for_both_maps_or_none() -> None:
    assert id_mapping({"other": "1"}) is None
    mapping = id_mapping(_MAPS)
    assert mapping is not None
    assert mapping.options == ("uidmap=0:100000:10", "gidmap=0:200000:10")
    for key in _MAPS:
        with pytest.raises(InvalidArgument, match="go together; give both"):
            id_mapping({key: "0:1:1"})


def test_a_mapped_active_is_not_committed_and_stays(store: MetaStore) -> None:
    create(store, "key", labels=_MAPS)
    with pytest.raises(FailedPrecondition, match="'key' was prepared with id maps"):
        commit(store, "name", "key")
    assert store.stat("key").kind is Kind.ACTIVE


@pytest.mark.parametrize("kind", [Kind.ACTIVE, Kind.VIEW])
@pytest.mark.parametrize("paths", [(), ("labels",), (f"labels.{_UIDS}",), (f"labels.{_GIDS}",)])
def test_maps_stay_as_they_were_prepared(
    store: MetaStore, kind: Kind, paths: tuple[str, ...]
) -> None:
    create(store, "mapped", kind=kind, labels=_MAPS)
    create(store, "plain", kind=kind)
    for key, change in (("mapped", {}), ("plain", _MAPS)):
        with pytest.raises(InvalidArgument, match="is fixed since it was prepared"):
            store.update(replace(store.stat(key), labels=change), paths)
    assert store.stat("mapped").labels == _MAPS
    kept = store.update(replace(store.stat("mapped"), labels={**_MAPS, "more": "1"}), ())
    assert kept.labels == {**_MAPS, "more": "1"}


def test_on_a_committed_snapshot_they_are_labels_like_others(store: MetaStore) -> None:
    committed(store, "name")
    assert store.update(replace(store.stat("name"), labels=_MAPS), ()).labels == _MAPS
    assert store.update(replace(store.stat("name"), labels={}), ()).labels == {}


def test_core_gives_no_target_for_a_mapped_active(store: MetaStore) -> None:
    create(store, "key", labels=_MAPS)
    target = DefaultTarget(cast(SnapshotterSpec, store))  # `stat` is all that it comes to
    with pytest.raises(FailedPrecondition, match="prepare one without them"):
        target.target("key")
