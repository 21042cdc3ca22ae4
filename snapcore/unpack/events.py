"""What a pull tells while it works: values for progress bars, logs and tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from snapcore.oci import Descriptor

Outcome: TypeAlias = Literal["applied", "exists", "remote", "staged"]
"""How a layer came to be: applied here, found committed, supplied by a remote backend under
its chain ID, or put in place by prepare (staged)."""

Sent: TypeAlias = Literal["written", "uploaded", "mounted", "exists"]
"""How a blob came to be elsewhere: written to a file, uploaded, taken by the registry from another
of its repositories, or found there."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The reference names this document."""

    reference: str
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class FetchStarted:
    """A blob's download begins."""

    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """So many bytes of a blob are on disk; a resumed download starts above 0."""

    descriptor: Descriptor
    offset: int


@dataclass(frozen=True, slots=True)
class FetchDone:
    """A blob is in the content store, verified; `cached` if it was there before."""

    descriptor: Descriptor
    cached: bool


@dataclass(frozen=True, slots=True)
class ArchiveRead:
    """So many bytes of an image archive have been read; `total` is 0 if it comes by a pipe."""

    where: str
    read: int
    total: int


@dataclass(frozen=True, slots=True)
class SendStarted:
    """A blob begins to leave for a file or a registry."""

    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class SendProgress:
    """So many bytes of a blob have left; a resumed upload may go back."""

    descriptor: Descriptor
    offset: int


@dataclass(frozen=True, slots=True)
class SendDone:
    """A blob is there."""

    descriptor: Descriptor
    how: Sent


@dataclass(frozen=True, slots=True)
class LayerPlanned:
    """A snapshotter that supplies layers itself has said whether it will supply this one.

    It may be told a second time, if it turned out otherwise.

    Attributes:
        descriptor: the layer's blob.
        snapshotter: its name.
        lazy: whether it will.
        detail: how its files are found then, else why it is fetched and unpacked.
    """

    descriptor: Descriptor
    snapshotter: str
    lazy: bool
    detail: str


@dataclass(frozen=True, slots=True)
class UnpackStarted:
    """A layer begins to be applied for a snapshotter."""

    descriptor: Descriptor
    snapshotter: str
    chain_id: str


@dataclass(frozen=True, slots=True)
class UnpackProgress:
    """So many compressed bytes of a layer have been read by the worker."""

    descriptor: Descriptor
    snapshotter: str
    read: int


@dataclass(frozen=True, slots=True)
class LayerDone:
    """A layer is committed under its chain ID."""

    descriptor: Descriptor
    snapshotter: str
    chain_id: str
    how: Outcome


@dataclass(frozen=True, slots=True)
class BlobDiscarded:
    """A layer's blob was deleted, since its layer is committed everywhere."""

    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class ImageUnpacked:
    """All layers of one manifest are committed and its config blob is labelled."""

    manifest: Descriptor
    snapshotter: str
    chain_id: str


Event: TypeAlias = (
    Resolved
    | FetchStarted
    | FetchProgress
    | FetchDone
    | ArchiveRead
    | SendStarted
    | SendProgress
    | SendDone
    | LayerPlanned
    | UnpackStarted
    | UnpackProgress
    | LayerDone
    | BlobDiscarded
    | ImageUnpacked
)
Events: TypeAlias = Callable[[Event], None]


def no_events(event: Event) -> None:
    """Be the listener of a caller who wants to hear nothing."""
    del event
