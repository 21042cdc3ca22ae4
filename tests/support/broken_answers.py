"""Wrappers that answer wrongly, around a snapshotter that works."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace

from snapcore import labels as label_keys
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
    Labels,
    LayerTarget,
    Mounts,
    Page,
    hookimpl,
)


class OtherMounts:
    """Mounts gives one mount more than prepare did."""

    @hookimpl(wrapper=True)
    def mounts(self) -> Generator[None, Mounts, Mounts]:
        mounts = yield
        return (*mounts, Mount("bind", "/"))


class WritableView:
    """The mounts of a view do not say that they are read-only."""

    @hookimpl(wrapper=True)
    def view(self) -> Generator[None, Mounts, Mounts]:
        mounts = yield
        return tuple(replace(mount, options=("rw",)) for mount in mounts)


class MountsOfCommitted:
    """A committed snapshot has mounts."""

    @hookimpl(wrapper=True)
    def mounts(self) -> Generator[None, Mounts, Mounts]:
        try:
            return (yield)
        except FailedPrecondition:
            return (Mount("bind", "/", options=("ro",)),)


class HidesTheFuture:
    """What was made later than the clock says is not there."""

    @hookimpl(wrapper=True)
    def stat(self, key: str) -> Generator[None, Info, Info]:
        info = yield
        if info.created > time.time_ns():
            raise NotFound(key)
        return info


class RemoveMissing:
    """Removing what is not there succeeds (containerd, erofs)."""

    @hookimpl(wrapper=True)
    def remove(self, key: str) -> Generator[None, Info, Info]:
        try:
            return (yield)
        except NotFound:
            return Info(Kind.ACTIVE, key)


class WrongClass:
    """Removing what is not there is FailedPrecondition."""

    @hookimpl(wrapper=True)
    def remove(self) -> Generator[None, Info, Info]:
        try:
            return (yield)
        except NotFound as error:
            raise FailedPrecondition(str(error)) from error


class KeyBeforeParent:
    """Prepare looks at the key before the parent."""

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


class KeyBeforeName:
    """Commit looks at the key before the name (containerd, overlay and native)."""

    def __init__(self) -> None:
        self.keys: set[str] = set()

    @hookimpl(wrapper=True)
    def prepare(self, key: str) -> Generator[None, Mounts, Mounts]:
        mounts = yield
        self.keys.add(key)
        return mounts

    @hookimpl(wrapper=True)
    def commit(self, key: str) -> Generator[None, Info, Info]:
        try:
            return (yield)
        except AlreadyExists:
            if key not in self.keys:
                raise NotFound(key) from None
            raise


class PathsBeforeKey:
    """Update looks at the field paths before the snapshot."""

    @hookimpl(wrapper=True)
    def update(self, fieldpaths: tuple[str, ...]) -> Generator[None, Info, Info]:
        try:
            return (yield)
        except NotFound:
            if "parent" in fieldpaths:
                raise InvalidArgument("parent") from None
            raise


class CommitsViews:
    """A View can be committed."""

    @hookimpl(wrapper=True)
    def commit(self, name: str) -> Generator[None, Info, Info]:
        try:
            return (yield)
        except FailedPrecondition:
            return Info(Kind.COMMITTED, name)


class TwoWinners:
    """Takes a name that somebody else has committed for its own success."""

    @hookimpl(wrapper=True)
    def commit(self, name: str) -> Generator[None, Info, Info]:
        try:
            return (yield)
        except AlreadyExists:
            return Info(Kind.COMMITTED, name)


class CommitsAnyway:
    """Says that a snapshot is committed though it went meanwhile."""

    @hookimpl(wrapper=True)
    def commit(self, name: str) -> Generator[None, Info, Info]:
        try:
            return (yield)
        except NotFound:
            return Info(Kind.COMMITTED, name)


class PreparesAnyway:
    """Says that a snapshot is there though its parent went while it was made."""

    @hookimpl(wrapper=True)
    def prepare(self) -> Generator[None, Mounts, Mounts]:
        try:
            return (yield)
        except NotFound:
            return ()


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


class RefIsTaken:
    """Claims nothing of the kind, and says AlreadyExists for whatever has a `snapshot.ref`."""

    @hookimpl(wrapper=True)
    def prepare(self, labels: Labels) -> Generator[None, Mounts, Mounts]:
        mounts = yield
        if label_keys.SNAPSHOT_REF in labels:
            raise AlreadyExists(labels[label_keys.SNAPSHOT_REF])
        return mounts


class SuppliesWithoutLabel:
    """A layer that it has made available by itself does not carry its `snapshot.ref`."""

    @hookimpl(wrapper=True)
    def stat(self) -> Generator[None, Info, Info]:
        info = yield
        return replace(info, labels={})


class StagedIsFinal:
    """An Active whose layer it has put there by itself cannot be committed."""

    @hookimpl(wrapper=True)
    def commit(self) -> Generator[None, Info, Info]:
        yield
        raise FailedPrecondition("there is nothing to commit")


class SwallowsCancel:
    """What a checkpoint raises ends the call, but does not come out."""

    @hookimpl(wrapper=True)
    def commit(self, name: str) -> Generator[None, Info, Info]:
        try:
            return (yield)
        except SnapcoreError:
            raise
        except BaseException:  # noqa: BLE001 - the fault
            return Info(Kind.COMMITTED, name)


class ViewsAreActive:
    """Stat tells nothing between a View and an Active."""

    @hookimpl(wrapper=True)
    def stat(self) -> Generator[None, Info, Info]:
        info = yield
        return replace(info, kind=Kind.ACTIVE) if info.kind is Kind.VIEW else info


class RemovesActives:
    """Whatever is removed was an Active."""

    @hookimpl(wrapper=True)
    def remove(self) -> Generator[None, Info, Info]:
        info = yield
        return replace(info, kind=Kind.ACTIVE)


class Mumbles:
    """What is not there is called nothing by its name."""

    @hookimpl(wrapper=True)
    def stat(self) -> Generator[None, Info, Info]:
        try:
            return (yield)
        except NotFound:
            raise NotFound("no such snapshot") from None


class CreatedAtOpen:
    """Everything was created when the instance was opened."""

    def __init__(self) -> None:
        self.opened = time.time_ns()

    @hookimpl(wrapper=True)
    def walk(self) -> Generator[None, Page, Page]:
        page = yield
        return Page(tuple(replace(info, created=self.opened) for info in page.infos))


class ShowsOwnIds:
    """Mounts of what was prepared with id maps map nothing."""

    @hookimpl(wrapper=True)
    def prepare(self) -> Generator[None, Mounts, Mounts]:
        return _unmapped((yield))

    @hookimpl(wrapper=True)
    def view(self) -> Generator[None, Mounts, Mounts]:
        return _unmapped((yield))

    @hookimpl(wrapper=True)
    def mounts(self) -> Generator[None, Mounts, Mounts]:
        return _unmapped((yield))


def _unmapped(mounts: Mounts) -> Mounts:
    return tuple(
        replace(mount, options=tuple(o for o in mount.options if "idmap=" not in o))
        for mount in mounts
    )
