"""What one hostile layer is: its bytes, what it attacks, and the one verdict of all backends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from snapcore.archive.types import Entry
from snapcore.errors import RefusedInput, SnapcoreError
from snapcore.oci import Digest
from support import layer_cases, tars
from support.hostile_tars import HOSTILE
from support.layer_cases import BASE, Changes
from support.layers import Layer, symlink
from support.layout import Compression
from support.tars import TYPE_FLAGS, Meta

CANARY: Final = b"/@canary@"
"""In link targets: the absolute path of the tree that lies beside the node's root."""
LINKS: Final = ("canary", "up", "in")
Verdict: TypeAlias = type[SnapcoreError] | Layer


@dataclass(frozen=True, slots=True)
class Packed:
    """A layer as it lies in an image.

    Attributes:
        blob: the bytes.
        diff_id: what the image's config says of it.
        compression: what its media type says.
    """

    blob: bytes
    diff_id: Digest
    compression: Compression = "none"


@dataclass(frozen=True, slots=True)
class HostileLayer:
    """One case of the catalogue.

    Attributes:
        name: unique.
        attacks: what it is after, in one line.
        content: entries, or what makes the bytes.
        verdict: the class of the refusal, or the honest layer of which the same tree comes.
        says: what the refusal says, among other things.
        shared: the archive room's tests have it too, on its applier alone.
        changes: what becomes of the base, in words, where these tests say so.
    """

    name: str
    attacks: str
    content: Layer | Callable[[], Packed]
    verdict: Verdict
    says: str = ""
    shared: bool = False
    changes: Changes | None = None

    @property
    def refusal(self) -> type[SnapcoreError] | None:
        """The class of its refusal; None if it is accepted."""
        return self.verdict if isinstance(self.verdict, type) else None

    @property
    def meaning(self) -> Layer:
        """The honest layer that it comes to, if it is accepted."""
        return () if isinstance(self.verdict, type) else self.verdict

    def pack(self, canary: bytes) -> Packed:
        """Return its bytes, links to the canary with its real path."""
        return self.content() if callable(self.content) else plain(encode(self.content, canary))


def base(canary: bytes) -> Layer:
    """Return the layer below: what other tests have, and `LINKS`, which lead to the canary."""
    up = b"../" * 20 + canary.lstrip(b"/")
    return (*BASE, symlink("canary", canary), symlink("up", up), symlink("in", up + b"/in"))


def accepted(
    name: str, attacks: str, content: Layer | Callable[[], Packed], meaning: Layer | None = None
) -> HostileLayer:
    """Return a case that comes to what an honest layer says; to itself if none is given."""
    if meaning is None:
        assert not callable(content), "bytes need their meaning said"
        meaning = content
    return HostileLayer(name, attacks, content, meaning)


def refused(
    name: str,
    attacks: str,
    content: Layer | Callable[[], Packed],
    says: str = "",
    kind: type[SnapcoreError] = RefusedInput,
) -> HostileLayer:
    """Return a case that is refused."""
    return HostileLayer(name, attacks, content, kind, says)


def known(name: str, attacks: str) -> HostileLayer:
    """Return a case of the archive room's own tests under its name there."""
    if name in HOSTILE:
        found = HOSTILE[name]
        make = partial(plain, found.data)
        return HostileLayer(name, attacks, make, RefusedInput, found.says, shared=True)
    for other, layer, changes in layer_cases.CASES:
        if other == name:
            return HostileLayer(name, attacks, layer, layer, shared=True, changes=changes)
    layer = dict(layer_cases.REFUSED)[name]
    return HostileLayer(name, attacks, layer, RefusedInput, " entry b", shared=True)


def raw(*parts: bytes) -> Callable[[], Packed]:
    """Return what makes a plain layer of these parts."""
    return lambda: plain(tars.tar(*parts))


def plain(data: bytes) -> Packed:
    """Return an uncompressed layer."""
    return Packed(data, Digest.of(data))


def with_canary(layer: Layer, canary: bytes) -> list[tuple[Entry, bytes]]:
    """Return entries whose links to the canary have its real path."""
    return [
        (_relinked(item, canary) if CANARY in item.link else item, data) for item, data in layer
    ]


def _relinked(item: Entry, canary: bytes) -> Entry:
    link = item.link.replace(CANARY, canary)
    path = tuple(part for part in link.split(b"/") if part) if item.link_path else ()
    values = {name: getattr(item, name) for name in item.__struct_fields__}
    return Entry(**{**values, "link": link, "link_path": path})


def encode(layer: Layer, canary: bytes = CANARY, *lead: bytes) -> bytes:
    """Return entries as an archive, whatever they are; `lead` goes before them."""
    return tars.tar(*lead, *(_encode(item, data) for item, data in with_canary(layer, canary)))


def _encode(item: Entry, data: bytes) -> bytes:
    return tars.entry(
        b"/".join(item.path),
        TYPE_FLAGS[item.type],
        Meta(item.mode, item.uid, item.gid, item.mtime, dict(item.xattrs)),
        link=item.link,
        data=data,
        device=(item.major, item.minor),
    )


def unique(cases: Sequence[HostileLayer]) -> tuple[HostileLayer, ...]:
    """Return the cases; none may have the name of another."""
    names = [case.name for case in cases]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, twice
    return tuple(cases)
