"""Wrappers that answer wrongly about labels, and in walks."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import replace

from snapcore.conformance import MemorySnapshotter
from snapcore.errors import InvalidArgument
from snapcore.snapshots import Info, Kind, Labels, Mounts, Page, hookimpl


class KeepsLabels:
    """A label that the Active had is still there after commit."""

    @hookimpl(wrapper=True)
    def commit(self, labels: dict[str, str]) -> Generator[None, Info, Info]:
        labels["t.old"] = "1"
        return (yield)


class UnsortedWalk:
    """A walk goes backwards."""

    @hookimpl(wrapper=True)
    def walk(self) -> Generator[None, Page, Page]:
        page = yield
        return Page(page.infos[::-1])


class ForgetfulWalk:
    """A walk leaves out the last of each page."""

    @hookimpl(wrapper=True)
    def walk(self) -> Generator[None, Page, Page]:
        page = yield
        return Page(page.infos[:-1])


class SmallPages:
    """A walk that was given a filter finds nothing on its second page."""

    @hookimpl(wrapper=True)
    def walk(self, filters: tuple[str, ...], after: str) -> Generator[None, Page, Page]:
        page = yield
        return Page() if filters and after else page


class PrefixFilters:
    """`==` in a filter compares beginnings."""

    @hookimpl(wrapper=True)
    def walk(self, filters: tuple[str, ...], after: str) -> Generator[None, Page, Page]:
        page = yield
        if filters == ("name==base",) and not after:
            return Page((*page.infos, Info(Kind.COMMITTED, "base and more")))
        return page


class AnchoredFilters:
    """`~=` in a filter matches from the beginning only."""

    @hookimpl(wrapper=True)
    def walk(self, filters: tuple[str, ...]) -> Generator[None, Page, Page]:
        page = yield
        patterns = [re.match(r"name~=(\w.*)", text) for text in filters]
        return Page(
            tuple(
                info
                for info in page.infos
                if not patterns or patterns[0] is None or re.match(patterns[0][1], info.name)
            )
        )


class NoUpdated(MemorySnapshotter):
    """Update leaves `updated` alone."""

    @hookimpl
    def update(self, info: Info, fieldpaths: tuple[str, ...]) -> Info:
        kept = self.state.find(info.name)
        before = kept.info.updated
        kept.info = replace(super().update(info, fieldpaths), updated=before)
        return kept.info


class CreatedMoves(MemorySnapshotter):
    """Update is a new creation."""

    @hookimpl
    def update(self, info: Info, fieldpaths: tuple[str, ...]) -> Info:
        after = super().update(info, fieldpaths)
        kept = self.state.find(info.name)
        kept.info = replace(after, created=after.updated)
        return kept.info


class AnyPath:
    """Update ignores field paths that it does not know."""

    @hookimpl(wrapper=True)
    def update(self, info: Info) -> Generator[None, Info, Info]:
        try:
            return (yield)
        except InvalidArgument:
            return info


class PlainLabels:
    """Labels are kept in ASCII."""

    @hookimpl(wrapper=True)
    def stat(self) -> Generator[None, Info, Info]:
        info = yield
        labels = {
            key: value.encode("ascii", "replace").decode() for key, value in info.labels.items()
        }
        return replace(info, labels=labels)


class ShortLabels:
    """Values of labels are cut to the length of a file name."""

    @hookimpl(wrapper=True)
    def stat(self) -> Generator[None, Info, Info]:
        info = yield
        return replace(info, labels={key: value[:255] for key, value in info.labels.items()})


class RefusesItsOwnLabels:
    """Makes up a label, and refuses it in an update."""

    @hookimpl(wrapper=True)
    def stat(self) -> Generator[None, Info, Info]:
        info = yield
        return replace(info, labels={**info.labels, "own/number": "1"})

    @hookimpl(wrapper=True)
    def update(self, info: Info) -> Generator[None, Info, Info]:
        answer = yield
        if "own/number" in info.labels:
            raise InvalidArgument("label 'own/number' is made up and cannot be set")
        return answer


class WalksWithoutLabels:
    """What a walk answers has no labels."""

    @hookimpl(wrapper=True)
    def walk(self) -> Generator[None, Page, Page]:
        page = yield
        return Page(tuple(replace(info, labels={}) for info in page.infos))


class AnyMap:
    """Takes id maps that say nothing for none at all."""

    @hookimpl(wrapper=True)
    def prepare(self, labels: Labels) -> Generator[None, Mounts, Mounts]:
        try:
            return (yield)
        except InvalidArgument:
            return ()
