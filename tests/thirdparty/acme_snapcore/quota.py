"""A wrapper that keeps a whole state root below so many bytes."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from snapcore.errors import ResourceExhausted
from snapcore.snapshots import Info, Mounts, Options, disk_usage, hookimpl, no_checkpoint


class Quota:
    def __init__(self, name: str, root: str, limit: int) -> None:
        self._name = name
        self._root = root
        self._limit = limit

    @hookimpl(wrapper=True)
    def prepare(self, key: str) -> Generator[None, Mounts, Mounts]:
        self._check(f"prepare {key!r}")
        return (yield)

    @hookimpl(wrapper=True)
    def commit(self, name: str, key: str) -> Generator[None, Info, Info]:
        self._check(f"commit {key!r} as {name!r}")
        return (yield)

    def _check(self, what: str) -> None:
        used = disk_usage(self._root, no_checkpoint).size
        if used > self._limit:
            raise ResourceExhausted(
                f"cannot {what} in {self._name!r}: {used} bytes used of a quota of {self._limit}"
            )


@dataclass(frozen=True)
class QuotaFactory:
    limit: int

    def __call__(self, name: str, root: str, options: Options) -> Quota:
        return Quota(name, root, self.limit)


QUOTA = QuotaFactory(1 << 20)
