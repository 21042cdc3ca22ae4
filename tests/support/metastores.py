"""A clock, and snapshots in a MetaStore, for tests."""

from __future__ import annotations

from snapcore.snapshots.metastore import MetaStore
from snapcore.snapshots.types import Info, Kind, Usage


class Clock:
    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        self.now += 1
        return self.now


def create(
    store: MetaStore,
    key: str,
    parent: str = "",
    kind: Kind = Kind.ACTIVE,
    labels: dict[str, str] | None = None,
) -> int:
    return store.record(store.reserve(kind, key, parent, labels or {})).id


def commit(
    store: MetaStore,
    name: str,
    key: str,
    parent: str = "",
    labels: dict[str, str] | None = None,
    usage: Usage | None = None,
) -> Info:
    return store.commit(store.check_commit(name, key, parent), labels or {}, usage or Usage(1, 2))


def committed(store: MetaStore, name: str, parent: str = "") -> int:
    number = create(store, f"making {name}", parent)
    commit(store, name, f"making {name}")
    return number


def names(store: MetaStore, *filters: str) -> list[str]:
    return [info.name for info in store.walk(filters, "", 100).infos]
