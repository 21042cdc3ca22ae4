"""The checks themselves: a snapshotter that is broken in one way is caught by the right check."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from snapcore.conformance import ALL_CHECKS, Harness
from snapcore.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SnapcoreError,
)
from snapcore.mount import Mount
from snapcore.snapshots import (
    Info,
    Kind,
    LayerTarget,
    Mounts,
    Options,
    Page,
    Reclaimed,
    Usage,
    hookimpl,
    open_snapshotter,
)

CHECKS = {check.name: check for check in ALL_CHECKS}


class WritableView:
    @hookimpl(wrapper=True)
    def view(self) -> Generator[None, Mounts, Mounts]:
        mounts = yield
        return tuple(replace(mount, options=("rbind", "rw")) for mount in mounts)


class OtherMounts:
    @hookimpl(wrapper=True)
    def mounts(self) -> Generator[None, Mounts, Mounts]:
        mounts = yield
        return (*mounts, Mount("bind", "/"))


class KeepsLabels:
    @hookimpl(wrapper=True)
    def commit(self, labels: dict[str, str]) -> Generator[None, Info, Info]:
        labels["t.old"] = "1"
        return (yield)


class WrongClass:
    """Turns each NotFound into FailedPrecondition."""

    @hookimpl(wrapper=True)
    def remove(self) -> Generator[None, Info, Info]:
        try:
            return (yield)
        except NotFound as error:
            raise FailedPrecondition(str(error)) from error


class WrongOrder:
    """Looks at the key before the parent."""

    def __init__(self) -> None:
        self.keys: set[str] = set()

    @hookimpl(wrapper=True)
    def prepare(self, key: str) -> Generator[None, Mounts, Mounts]:
        try:
            mounts = yield
        except SnapcoreError:
            if key in self.keys:
                raise AlreadyExists(key) from None
            raise
        self.keys.add(key)
        return mounts


class StaleUsage:
    @hookimpl(wrapper=True)
    def usage(self) -> Generator[None, Usage, Usage]:
        yield
        return Usage(inodes=1, size=4096)


class UnsortedWalk:
    @hookimpl(wrapper=True)
    def walk(self) -> Generator[None, Page, Page]:
        page = yield
        return Page(page.infos[::-1])


class ForgetfulWalk:
    @hookimpl(wrapper=True)
    def walk(self) -> Generator[None, Page, Page]:
        page = yield
        return Page(page.infos[:-1])


class NoUpdated:
    @hookimpl(wrapper=True)
    def update(self) -> Generator[None, Info, Info]:
        info = yield
        return replace(info, updated=info.created)


class LazyCleanup:
    @hookimpl(wrapper=True)
    def cleanup(self) -> Generator[None, Reclaimed, Reclaimed]:
        yield
        return Reclaimed(directories=1)


class PrivateRoot:
    @hookimpl(wrapper=True)
    def prepare(self) -> Generator[None, Mounts, Mounts]:
        mounts = yield
        os.chmod(mounts[0].source, 0o700)
        return mounts


class Polluted:
    @hookimpl(wrapper=True)
    def prepare(self) -> Generator[None, Mounts, Mounts]:
        mounts = yield
        with open(os.path.join(mounts[0].source, "left over"), "wb"):
            return mounts


class TwoWinners:
    """Takes a name that somebody else has committed for its own success."""

    @hookimpl(wrapper=True)
    def commit(self, name: str) -> Generator[None, Info, Info]:
        try:
            return (yield)
        except AlreadyExists:
            return Info(Kind.COMMITTED, name)


class PreparesAnyway:
    """Says that a snapshot is there though its parent went while it was made."""

    @hookimpl(wrapper=True)
    def prepare(self) -> Generator[None, Mounts, Mounts]:
        try:
            return (yield)
        except NotFound:
            return ()


class CommitsAnyway:
    """Says that a snapshot is committed though it went meanwhile."""

    @hookimpl(wrapper=True)
    def commit(self, name: str) -> Generator[None, Info, Info]:
        try:
            return (yield)
        except NotFound:
            return Info(Kind.COMMITTED, name)


class ForgetsMaps:
    """Takes the id maps of a snapshot for labels like any others."""

    @hookimpl(wrapper=True)
    def update(self, info: Info) -> Generator[None, Info, Info]:
        try:
            return (yield)
        except InvalidArgument:
            return info


class MapsLayers:
    """Gives an Active with id maps as a target."""

    @hookimpl(wrapper=True)
    def target(self) -> Generator[None, LayerTarget, LayerTarget]:
        try:
            return (yield)
        except FailedPrecondition:
            return LayerTarget("/")


SABOTAGE: tuple[tuple[type, str], ...] = (
    (WritableView, "view_is_read_only"),
    (WritableView, "every_mount_of_a_view_is_read_only"),
    (OtherMounts, "mounts_are_what_prepare_gave"),
    (KeepsLabels, "commit_replaces_labels"),
    (WrongClass, "unknown_keys"),
    (WrongOrder, "prepare_and_view"),
    (StaleUsage, "usage_of_an_active_is_live"),
    (UnsortedWalk, "walk_is_sorted_and_whole"),
    (ForgetfulWalk, "walk_is_sorted_and_whole"),
    (ForgetfulWalk, "stories"),
    (NoUpdated, "update_replaces_all"),
    (LazyCleanup, "cleanup_frees_what_was_removed"),
    (PrivateRoot, "root_permission"),
    (Polluted, "new_snapshot_starts_empty_again"),
    (TwoWinners, "commits_race_for_a_name"),
    (PreparesAnyway, "prepare_on_what_goes"),
    (CommitsAnyway, "commit_of_what_goes"),
    (ForgetsMaps, "maps_do_not_change"),
    (MapsLayers, "mapped_actives_are_no_layers"),
)


@pytest.mark.needs_root
@pytest.mark.parametrize(("saboteur", "name"), SABOTAGE)
def test_a_broken_snapshotter_is_caught(
    saboteur: type, name: str, tmp_path: Path, census: None
) -> None:
    def make(name: str, root: str, options: Options) -> object:
        return saboteur()

    work = tmp_path / "work"
    work.mkdir()
    root = str(tmp_path / "root")
    with open_snapshotter("native", root, wrappers=(make,)) as snapshotter:
        harness = Harness(
            snapshotter, str(work), lambda: open_snapshotter("native", root, wrappers=(make,))
        )
        with pytest.raises((AssertionError, SnapcoreError)):
            CHECKS[name].function(harness)
        harness.snapshotter.close()
