"""What the snapshotter and the daemon say to each other: JSON lines, one request a connection."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from snapcore.errors import ContractError, SnapcoreError, error_class
from snapcore_fuse.settings import Settings

MAX_LINE: Final = 1 << 20
_MAX_TEXT: Final = 4000


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer as its puller names it.

    Attributes:
        image: the reference that was pulled.
        manifest: digest of the manifest that names the layer.
        digest: of the blob.
        diff_id: of the uncompressed layer.
        following: digests of layers above it that will be asked for next.
        plain_http: speak to the registry without TLS.
        insecure: do not check the registry's certificate.
    """

    image: str
    manifest: str
    digest: str
    diff_id: str
    following: tuple[str, ...] = ()
    plain_http: bool = False
    insecure: bool = False


# --- requests -------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, tag=True):
    """Say that you live; from now on these settings apply. Answer: Ready."""

    settings: Settings


class Plan(msgspec.Struct, frozen=True, tag=True):
    """Find out whether a layer has an index that may be used. Answer: Outcome."""

    layer: Layer


class Resolve(msgspec.Struct, frozen=True, tag=True):
    """Get a layer's index and keep it in a snapshot's directory. Answer: Outcome."""

    directory: str
    layer: Layer


class Build(msgspec.Struct, frozen=True, tag=True):
    """Make the inodes of a resolved layer over the layers below, and serve them.

    Attributes:
        id: of the snapshot.
        directory: of the snapshot.
        parents: ids of the layers below, the nearest first.
        style: how deletions are written.
        trial: only find out whether it can be done.
    """

    id: int
    directory: str
    parents: tuple[int, ...]
    style: str
    trial: bool = False


class Remove(msgspec.Struct, frozen=True, tag=True):
    """Serve these snapshots no longer; drop what only they needed. Answer: Done."""

    ids: tuple[int, ...]


class Ask(msgspec.Struct, frozen=True, tag=True):
    """Say how a snapshot's layer fares. Answer: LayerState."""

    id: int


class Measure(msgspec.Struct, frozen=True, tag=True):
    """Say what you count. Answer: Measures."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Unmount and end. Answer: Done, before."""


# --- answers --------------------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The daemon lives.

    Attributes:
        pid: its process id.
        namespace: the mount namespace that its mount is in.
        served: how many snapshots it serves.
    """

    pid: int
    namespace: int
    served: int


class Outcome(msgspec.Struct, frozen=True, tag=True):
    """What became of a layer.

    Attributes:
        reason: why it cannot be lazy; "" if it is.
        hides: whether nothing of the layers below it shows.
        format: what its files are found by.
    """

    reason: str = ""
    hides: bool = False
    format: str = ""


class LayerState(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How a layer fares: see `snapcore.snapshots.SnapshotStatus`."""

    format: str
    size: int
    fetched: int = 0
    served: int = 0
    wasted: int = 0
    requests: int = 0
    hits: int = 0
    misses: int = 0
    complete: bool = False
    error: str = ""


class Measures(msgspec.Struct, frozen=True, tag=True):
    """What is counted, as text for Prometheus."""

    text: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """It is done.

    Attributes:
        ending: whether the daemon ends now.
    """

    ending: bool = False


class Failed(msgspec.Struct, frozen=True, tag=True):
    """It could not be done; the error by the name of its class."""

    kind: str
    message: str


Request: TypeAlias = Hello | Plan | Resolve | Build | Remove | Ask | Measure | Stop
Answer: TypeAlias = Ready | Outcome | LayerState | Measures | Done | Failed

_request: Final[msgspec.json.Decoder[Request]] = msgspec.json.Decoder(Request)
_answer: Final[msgspec.json.Decoder[Answer]] = msgspec.json.Decoder(Answer)


def encode(message: Request | Answer) -> bytes:
    """Return the line of a message."""
    return msgspec.json.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """Parse what the daemon received.

    Raises:
        ContractError: it is no request.
    """
    try:
        return _request.decode(line)
    except msgspec.MsgspecError as error:
        raise ContractError(f"the daemon of lazy layers was asked nonsense: {error}") from error


def decode_answer(line: bytes) -> Answer:
    """Parse what the daemon answered.

    Raises:
        ContractError: it is no answer.
    """
    try:
        return _answer.decode(line)
    except msgspec.MsgspecError as error:
        raise ContractError(f"the daemon of lazy layers answered nonsense: {error}") from error


def failure(error: SnapcoreError) -> Failed:
    """Return the answer that carries an error."""
    return Failed(type(error).__name__, str(error)[:_MAX_TEXT])


def revive(answer: Failed) -> SnapcoreError:
    """Return the error that the daemon reported."""
    return error_class(answer.kind)(answer.message)
