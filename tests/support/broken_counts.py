"""Wrappers that count wrongly, or say that there is too much."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from snapcore.errors import FailedPrecondition, Unimplemented
from snapcore.snapshots import FlushReport, Info, Kind, Mounts, Reclaimed, Usage, hookimpl


class StaleUsage:
    """The usage of an Active is what it was when it was made."""

    @hookimpl(wrapper=True)
    def usage(self) -> Generator[None, Usage, Usage]:
        yield
        return Usage(inodes=1, size=4096)


class UsageOfWholeTree:
    """The usage of a copy is all of it (containerd, native)."""

    @hookimpl(wrapper=True)
    def usage(self) -> Generator[None, Usage, Usage]:
        usage = yield
        return replace(usage, delta=None)


class BusyCleanup:
    """Cleanup says each time that it has removed something."""

    @hookimpl(wrapper=True)
    def cleanup(self) -> Generator[None, Reclaimed, Reclaimed]:
        yield
        return Reclaimed(directories=1)


class FewLayers:
    """No snapshot stands on more than a hundred others."""

    def __init__(self) -> None:
        self.heights: dict[str, int] = {"": 0}

    @hookimpl(wrapper=True)
    def prepare(self, key: str, parent: str) -> Generator[None, Mounts, Mounts]:
        mounts = yield
        self.heights[key] = self.heights.get(parent, 0) + 1
        if self.heights[key] > 100:
            raise FailedPrecondition("more than a hundred layers")
        return mounts

    @hookimpl(wrapper=True)
    def commit(self, name: str, key: str) -> Generator[None, Info, Info]:
        info = yield
        self.heights[name] = self.heights[key]
        return info


class WillNotSayHowMany:
    """Refuses a snapshot on very many others, and does not say on how many."""

    @hookimpl(wrapper=True)
    def prepare(self, parent: str) -> Generator[None, Mounts, Mounts]:
        mounts = yield
        if parent == "layer 499":
            raise FailedPrecondition("too many layers")
        return mounts


class ShallowUsage:
    """No more than a thousand files are counted."""

    @hookimpl(wrapper=True)
    def usage(self) -> Generator[None, Usage, Usage]:
        usage = yield
        return replace(usage, inodes=min(usage.inodes, 1000))


class FlushesNothing:
    """Flush does nothing, and says so."""

    @hookimpl(wrapper=True)
    def flush(self) -> Generator[None, FlushReport, FlushReport]:
        yield
        return FlushReport()


class RebasesInSilence:
    """Cannot rebase, and commits nevertheless, without the new parent."""

    @hookimpl(wrapper=True)
    def commit(self) -> Generator[None, Info, Info]:
        try:
            return (yield)
        except Unimplemented:
            return Info(Kind.COMMITTED, "new")
