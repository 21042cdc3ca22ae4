"""Layers for tests: entries in memory, and places to apply them to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

from snapcore.archive import (
    ApplyPolicy,
    Destination,
    Entry,
    EntryType,
    InOrder,
    Postponed,
    WhiteoutsFirst,
    apply_apart,
    apply_entries,
    collect,
    settle,
)
from snapcore.linux import MountAttr
from snapcore.mount import make_overlay
from snapcore.oci import WhiteoutStyle

Path: TypeAlias = tuple[bytes, ...]
Layer: TypeAlias = Sequence[tuple[Entry, bytes]]
KEEP: Final = ApplyPolicy()
SQUASH: Final = ApplyPolicy(ids="squash", devices="skip")


def split(name: str | bytes) -> Path:
    """Return the components of a path."""
    return tuple(part for part in os.fsencode(name).split(b"/") if part)


def entry(
    name: str | bytes,
    kind: EntryType = EntryType.FILE,
    data: bytes = b"",
    *,
    mode: int = 0o644,
    ids: tuple[int, int] = (0, 0),
    mtime: int = 0,
    link: str | bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: Mapping[bytes, bytes] | None = None,
) -> tuple[Entry, bytes]:
    """Return one entry and its payload."""
    raw = os.fsencode(link)
    return (
        Entry(
            path=split(name),
            type=kind,
            mode=mode,
            uid=ids[0],
            gid=ids[1],
            mtime=mtime,
            size=len(data),
            link=raw,
            link_path=split(raw) if kind is EntryType.HARDLINK else (),
            major=device[0],
            minor=device[1],
            xattrs=tuple((xattrs or {}).items()),
            offset=0,
        ),
        data,
    )


def file(name: str | bytes, data: bytes = b"", *, mode: int = 0o644) -> tuple[Entry, bytes]:
    """Return a regular file."""
    return entry(name, EntryType.FILE, data, mode=mode)


def folder(name: str | bytes, *, mode: int = 0o755, mtime: int = 0) -> tuple[Entry, bytes]:
    """Return a directory."""
    return entry(name, EntryType.DIRECTORY, mode=mode, mtime=mtime)


def symlink(name: str | bytes, target: str | bytes) -> tuple[Entry, bytes]:
    """Return a symbolic link."""
    return entry(name, EntryType.SYMLINK, mode=0o777, link=target)


def hardlink(name: str | bytes, target: str | bytes) -> tuple[Entry, bytes]:
    """Return a hard link, with attributes that must not count."""
    return entry(name, EntryType.HARDLINK, mode=0o777, ids=(77, 77), mtime=77, link=target)


def whiteout(name: str) -> tuple[Entry, bytes]:
    """Return the whiteout of a path."""
    parent, slash, base = name.rpartition("/")
    return file(f"{parent}{slash}.wh.{base}")


def opaque(name: str = "") -> tuple[Entry, bytes]:
    """Return the opaque marker of a directory."""
    return file(f"{name}/.wh..wh..opq")


class MemorySource:
    """A layer in memory, as the applier reads it."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._data = b""

    def __iter__(self) -> Iterator[Entry]:
        for item, data in self._layer:
            self._data = data
            yield item

    def copy_payload(self, descriptor: int, /) -> None:
        os.write(descriptor, self._data)


class LocalSteps:
    """Does at once what a worker would ask its parent for."""

    def __init__(self) -> None:
        self.marked = 0

    def mark_opaque(self, directory: int) -> None:
        os.setxattr(directory, "trusted.overlay.opaque", b"y")
        self.marked += 1

    def progress(self, read: int) -> None:
        pass


class Native:
    """Layers applied to one directory, in place; done anew where whiteouts must go first."""

    def __init__(self, top: str, *, whiteouts_first: bool = False) -> None:
        self._root = os.path.join(top, "native")
        self._always = whiteouts_first
        self._done: list[tuple[Layer, bool]] = []
        self.second_runs = 0
        os.mkdir(self._root)

    def apply(self, layer: Layer, policy: ApplyPolicy = KEEP) -> Mapping[str, int]:
        """Apply one more layer, as the unpacker would."""
        if not self._always:
            try:
                return self._apply(layer, False, policy)
            except WhiteoutsFirst:
                self.second_runs += 1
                self._rebuild()
        return self._apply(layer, True, policy)

    @contextmanager
    def mounted(self) -> Iterator[str]:
        """Yield the tree."""
        yield self._root

    def _apply(self, layer: Layer, first: bool, policy: ApplyPolicy = KEEP) -> Mapping[str, int]:
        with opened(self._root) as directory:
            base = not self._done
            skipped = apply_entries(
                MemorySource(layer),
                Destination(directory, None, WhiteoutStyle.APPLY, base),
                policy,
                LocalSteps(),
                collect(MemorySource(layer)) if first else None,
            )
        self._done.append((layer, first))
        return skipped

    def _rebuild(self) -> None:
        shutil.rmtree(self._root)
        os.mkdir(self._root)
        done, self._done = self._done, []
        for layer, first in done:
            self._apply(layer, first)


class Overlay:
    """Layers applied to upper directories, which the kernel puts together."""

    def __init__(self, top: str, *, whiteouts_first: bool = False) -> None:
        self._top = top
        self._always = whiteouts_first
        self._count = 0
        self.uppers: list[str] = []
        self.second_runs = 0

    def apply(self, layer: Layer, policy: ApplyPolicy = KEEP) -> Mapping[str, int]:
        """Apply one more layer, as the unpacker would."""
        if not self._always:
            try:
                return self._apply(layer, False, policy)
            except WhiteoutsFirst:
                self.second_runs += 1
        return self._apply(layer, True, policy)

    @contextmanager
    def mounted(self) -> Iterator[str]:
        """Yield the merged tree."""
        with self._lower() as lower:
            yield f"/proc/self/fd/{lower}/." if lower is not None else self._top

    def _apply(self, layer: Layer, first: bool, policy: ApplyPolicy) -> Mapping[str, int]:
        upper = self._new_upper()
        with opened(upper) as directory, self._lower() as lower:
            skipped = apply_entries(
                MemorySource(layer),
                Destination(directory, lower, WhiteoutStyle.OVERLAY, self._count == 1),
                policy,
                LocalSteps(),
                collect(MemorySource(layer)) if first else None,
            )
        self._put_on_top(upper)
        return skipped

    def _new_upper(self) -> str:
        upper = os.path.join(self._top, f"upper{self._count}")
        self._count += 1
        os.mkdir(upper)
        return upper

    def _put_on_top(self, upper: str) -> None:
        # The kernel ignores the mark on a root; what is below is left out of the mount instead.
        if "trusted.overlay.opaque" in os.listxattr(upper):
            self.uppers.clear()
        self.uppers.append(upper)

    @contextmanager
    def _lower(self) -> Iterator[int | None]:
        if not self.uppers:
            yield None
        elif len(self.uppers) == 1:
            with opened(self.uppers[0]) as directory:
                yield directory
        else:
            descriptor = detached_overlay(list(reversed(self.uppers)))
            try:
                yield descriptor
            finally:
                os.close(descriptor)


class Apart(Overlay):
    """As Overlay, but each layer above the base is applied apart and settled, where it can be.

    Attributes:
        settled: how many were.
        redone: why the others were done over their parents, in the end.
    """

    def __init__(self, top: str) -> None:
        super().__init__(top)
        self.settled = 0
        self.redone: list[str] = []

    def apply(self, layer: Layer, policy: ApplyPolicy = KEEP) -> Mapping[str, int]:
        """Apply one more layer, as the unpacker would with workers at the same time."""
        if not self.uppers:
            return super().apply(layer, policy)
        try:
            skipped = self._apply_apart(layer, policy)
        except InOrder as signal:
            self.redone.append(str(signal))
            return super().apply(layer, policy)
        self.settled += 1
        return skipped

    def _apply_apart(self, layer: Layer, policy: ApplyPolicy) -> Mapping[str, int]:
        upper = self._new_upper()
        with opened(upper) as directory:
            bare = Destination(directory, None, WhiteoutStyle.OVERLAY, base=False)
            skipped, postponed = apply_apart(MemorySource(layer), bare, policy, LocalSteps())
        if not postponed.empty:
            again = Postponed.decode(postponed.encode())
            assert again == postponed
            with opened(upper) as directory, self._lower() as lower:
                whole = Destination(directory, lower, WhiteoutStyle.OVERLAY, base=False)
                settle(again, whole, policy, LocalSteps())
        self._put_on_top(upper)
        return skipped


@contextmanager
def opened(path: str) -> Iterator[int]:
    """Open a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def detached_overlay(lowers: Sequence[str]) -> int:
    """Return the open root of an overlay of these directories, the nearest first."""
    safe = ("redirect_dir=nofollow", "metacopy=off", "index=off")
    mounted = make_overlay(lowers, safe, MountAttr.RDONLY)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=mounted)
    finally:
        os.close(mounted)


def apply_base(
    directory: str | os.PathLike[str],
    *layer: tuple[Entry, bytes],
    policy: ApplyPolicy | None = None,
) -> dict[str, int]:
    """Apply one base layer to a directory that shows the whole tree."""
    with opened(os.fspath(directory)) as descriptor:
        destination = Destination(descriptor, None, WhiteoutStyle.APPLY, base=True)
        source = MemorySource(layer)
        return dict(apply_entries(source, destination, policy or ApplyPolicy(), LocalSteps()))


def apply_over(directory: str, *layer: tuple[Entry, bytes]) -> None:
    """Apply one more layer to such a directory, without privilege."""
    with opened(directory) as descriptor:
        destination = Destination(descriptor, None, WhiteoutStyle.APPLY, base=False)
        apply_entries(MemorySource(layer), destination, SQUASH, LocalSteps())
