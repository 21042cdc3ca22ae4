"""The smallest honest backend: a DiskStore, one directory a snapshot, no layering.

It leaves out target, flush and cleanup, and takes only the arguments that it needs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import cast

from snapcore.mount import Mount
from snapcore.snapshots import (
    Backend,
    Checkpoint,
    DiskStore,
    Info,
    Kind,
    Labels,
    Mounts,
    Option,
    Options,
    Page,
    Probe,
    Usage,
    disk_usage,
    hookimpl,
)


class Acme:
    def __init__(self, root: str) -> None:
        self._disk = DiskStore(root, sync_remove=True)
        self._records = self._disk.records

    @hookimpl
    def stat(self, key: str) -> Info:
        return self._records.stat(key)

    @hookimpl
    def update(self, info: Info, fieldpaths: tuple[str, ...]) -> Info:
        return self._records.update(info, fieldpaths)

    @hookimpl
    def usage(self, key: str, checkpoint: Checkpoint) -> Usage:
        record = self._records.get(key)
        return record.usage or disk_usage(self._disk.path(record.id), checkpoint)

    @hookimpl
    def mounts(self, key: str) -> Mounts:
        record = self._records.stack(key).record
        access = "rw" if record.info.kind is Kind.ACTIVE else "ro"
        return (Mount("bind", self._disk.path(record.id), options=("rbind", access)),)

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels) -> Mounts:
        with self._disk.creating(Kind.ACTIVE, key, parent, labels) as draft:
            os.chmod(draft.directory, 0o755)
        return self.mounts(key)

    @hookimpl
    def view(self, key: str, parent: str, labels: Labels) -> Mounts:
        with self._disk.creating(Kind.VIEW, key, parent, labels) as draft:
            os.chmod(draft.directory, 0o755)
        return self.mounts(key)

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        plan = self._records.check_commit(name, key, parent)
        return self._records.commit(plan, labels, disk_usage(self._disk.path(plan.id), checkpoint))

    @hookimpl
    def remove(self, key: str, checkpoint: Checkpoint) -> Info:
        return self._disk.remove(key, checkpoint).info

    @hookimpl
    def walk(self, filters: tuple[str, ...], after: str, limit: int) -> Page:
        return self._records.walk(filters, after, limit)

    @hookimpl
    def close(self) -> bool:
        return self._disk.close()


@hookimpl
def snapcore_options() -> Mapping[str, Option]:
    return {
        "speed": Option(str, "fast", "How fast.", choices=("fast", "slow")),
        "level": Option(int, 3, "How much."),
        "careful": Option(bool, True, "Whether to be careful."),
        "extra": Option(list, (), "More of it."),
    }


@hookimpl
def snapcore_probe(root: str, options: Options) -> Probe:
    if options["level"] == 0:
        return Probe(usable=False, reason="level 0 is below the ground")
    return Probe(usable=True, details={"speed": str(options["speed"])})


@hookimpl
def snapcore_open(root: str, options: Options) -> Backend:
    # The cast is due to the arguments left out: at run time fewer are fine, to mypy they are not.
    return cast(Backend, Acme(root))
