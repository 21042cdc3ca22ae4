"""Images from files: which a layout directory or an archive holds, and what they are called."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

import trio

from snapcore.archive import Limits
from snapcore.content import ContentStore
from snapcore.errors import (
    DigestMismatch,
    InvalidArgument,
    NotFound,
    RefusedInput,
    from_os_error,
)
from snapcore.node.acquire import DirectorySource, Source
from snapcore.oci import Descriptor, Digest, Reference
from snapcore.registry import ArchiveSource, LayoutSource, Listener, NamedImage
from snapcore.unpack import (
    ArchiveRead,
    Event,
    Events,
    FetchDone,
    FetchProgress,
    FetchStarted,
)

_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9]+")
_ARCHIVE_SUFFIX: Final = re.compile(r"(?:\.(?:tar|tgz|tzst|oci|docker))?(?:\.(?:gz|zst|zstd))?\Z")
_SHORT_DIGEST: Final = 12


@dataclass(frozen=True, slots=True)
class Found:
    """What a directory or an archive holds.

    Attributes:
        where: names it in messages.
        base: repository for images that have no name, `localhost/…`.
        images: at least one.
        source: where their blobs come from.
        events: the caller's, without what was told already.
    """

    where: str
    base: str
    images: tuple[NamedImage, ...]
    source: Source
    events: Events

    def named(self, name: str) -> tuple[tuple[str, Descriptor], ...]:
        """Return the local name of each image, in order.

        Args:
            name: the caller's repository, with a tag or digest only if there is one image;
                "" takes the names that the images' author gave them.

        Raises:
            InvalidArgument: `name` has a tag or digest but there are several images, or two
                images would get the same name.
            RefusedInput: a name or tag of the author's is malformed.
            DigestMismatch: a name has a digest, and it is another one.
        """
        targets = {image.descriptor.digest: image.descriptor for image in self.images}
        if "@" in name or ":" in name.rpartition("/")[2]:
            if len(targets) > 1:
                raise InvalidArgument(
                    f"{name!r} has a tag or digest, but {self.where!r} holds {len(targets)} images"
                )
            pairs = [(Reference.parse(name), self.images[0].descriptor)]
        else:
            alone = len(targets) == 1
            pairs = [(self._name(i, name, alone), i.descriptor) for i in self.images]
        return self._checked(pairs)

    def _name(self, image: NamedImage, name: str, alone: bool) -> Reference:
        if image.name and not name:
            return Reference.parse(image.name)
        repository = Reference.parse(name or self.base).name
        tag = Reference.parse(image.name).tag if image.name else _tag(image.tag)
        tag = tag or ("latest" if alone else image.descriptor.digest.hex[:_SHORT_DIGEST])
        try:
            return Reference.parse(f"{repository}:{tag}")
        except InvalidArgument as error:
            raise RefusedInput(f"{self.where!r}: {error}") from error

    def _checked(
        self, pairs: Sequence[tuple[Reference, Descriptor]]
    ) -> tuple[tuple[str, Descriptor], ...]:
        found: dict[str, Descriptor] = {}
        for reference, target in pairs:
            if reference.digest not in (None, target.digest):
                raise DigestMismatch(
                    f"{self.where!r}: the image for {str(reference)!r} has digest {target.digest}"
                )
            if found.setdefault(str(reference), target).digest != target.digest:
                raise InvalidArgument(
                    f"two images of {self.where!r} would be called {str(reference)!r};"
                    " choose names that differ with --name"
                )
        return tuple(found.items())


class Offer(Protocol):
    """Images that are somewhere else, such as `ServedImages`.

    Attributes:
        where: what to call the place in messages.
    """

    @property
    def where(self) -> str:
        """See above."""

    def images(self) -> tuple[NamedImage, ...]:
        """Return the images; blocks."""

    def source(self, store: ContentStore) -> Source:
        """Return where their blobs come from, on their way to a store."""


class ReadArchive:
    """An archive that has gone by: what it held is in the content store."""

    origin: Mapping[str, str] = MappingProxyType({})
    whole: bool = True

    def __init__(self, where: str) -> None:
        self._where = where

    async def fetch(self, descriptor: Descriptor, progress: Callable[[int], None]) -> None:
        """Refuse.

        Raises:
            NotFound: always: the archive lacks the blob.
        """
        del progress
        raise NotFound(
            f"image archive {self._where!r} lacks blob {descriptor.digest}"
            f" ({descriptor.media_type})"
        )


async def find_images(
    source: str | int | Offer, store: ContentStore, limits: Limits, events: Events
) -> Found:
    """Look into a layout directory, or read a whole archive into the content store.

    Args:
        source: path of a directory or archive, or an open file, pipe or socket, which stays open;
            or images that are somewhere else.
        store: where blobs of an archive go.
        limits: budgets of an archive.
        events: told what happens, from a worker thread.

    Raises:
        NotFound: nothing there, or it names no image.
        RefusedInput, DigestMismatch: the content is not acceptable.
        ResourceExhausted, DataLoss, PermissionDenied: reading or storing failed.
    """
    if isinstance(source, int):
        where = "standard input" if source == 0 else f"descriptor {source}"
        return await _read(source, where, "localhost/image", store, limits, events)
    if not isinstance(source, str):
        named = await trio.to_thread.run_sync(source.images)
        brings = source.source(store)
        return _some(Found(source.where, "localhost/image", named, brings, events))
    if await trio.to_thread.run_sync(os.path.isdir, source):
        layout = await trio.to_thread.run_sync(LayoutSource, source)
        images = await trio.to_thread.run_sync(layout.images)
        base = _base(source)
        return _some(Found(source, base, images, DirectorySource(layout, store), events))
    descriptor = await trio.to_thread.run_sync(_open, source)
    try:
        return await _read(descriptor, source, _base(source), store, limits, events)
    finally:
        os.close(descriptor)


async def _read(
    descriptor: int, where: str, base: str, store: ContentStore, limits: Limits, events: Events
) -> Found:
    total = os.fstat(descriptor).st_size
    copied: set[Digest] = set()

    def done(blob: Descriptor, cached: bool) -> None:
        copied.add(blob.digest)
        events(FetchDone(blob, cached))

    def once(event: Event) -> None:
        """Leave out that a blob is here already if it was just said that it came."""
        if not (isinstance(event, FetchDone) and event.descriptor.digest in copied):
            events(event)

    listener = Listener(
        lambda blob: events(FetchStarted(blob)),
        lambda blob, offset: events(FetchProgress(blob, offset)),
        done,
    )
    images = await ArchiveSource(descriptor, where, limits).read(
        store, listener, lambda read: events(ArchiveRead(where, read, total))
    )
    return _some(Found(where, base, images, ReadArchive(where), once))


def _some(found: Found) -> Found:
    if not found.images:
        raise NotFound(f"{found.where!r} names no image")
    return found


def _open(path: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise from_os_error(error, f"image archive {path!r}") from error
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        os.close(descriptor)
        raise InvalidArgument(f"{path!r} is neither a directory nor an archive file")
    return descriptor


def _base(path: str) -> str:
    name = _ARCHIVE_SUFFIX.sub("", os.path.basename(os.path.realpath(path)).lower())
    return "localhost/" + (_NOT_IN_NAMES.sub("-", name).strip("-") or "image")


def _tag(text: str) -> str:
    """Return the tag in the short name that a layout gives an image, "" for none."""
    tail = text.rpartition("/")[2]
    return tail.partition(":")[2] or (tail if ":" not in tail else "")
