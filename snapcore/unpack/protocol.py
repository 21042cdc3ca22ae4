"""What the parent and its worker processes say to each other.

Messages are msgpack of tagged structs over SOCK_SEQPACKET sockets, so that a message is whole
or absent; descriptors travel beside them (SCM_RIGHTS, unix(7)).

    parent → zygote   a job + descriptors [job socket, owner lock, and those of the job]
    worker → parent   Hello + [pidfd], then Read … and Opaque + [directory] …, then one of
                      Done, Again, Failed
    parent → worker   Marked, after each Opaque
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from snapcore.archive import ApplyPolicy, Limits
from snapcore.errors import ContractError, SnapcoreError, error_class

MAX_MESSAGE: Final = 64 * 1024
# A feeder has two pipes for each sink at most.
MAX_DESCRIPTORS: Final = 64
_MAX_TEXT: Final = 4000


class Layer(msgspec.Struct, frozen=True, tag=True):
    """Apply a layer over what is below it: [blob, directory, lower?]."""

    digest: str
    size: int
    diff_id: str
    style: str
    base: bool
    whiteouts_first: bool
    limits: Limits
    policy: ApplyPolicy


class Apart(msgspec.Struct, frozen=True, tag=True):
    """Apply a layer apart from its parents and note what is left: [blob, directory, notes]."""

    digest: str
    size: int
    diff_id: str
    style: str
    limits: Limits
    policy: ApplyPolicy


class Settle(msgspec.Struct, frozen=True, tag=True):
    """Do what was left, over the parents: [notes, directory, lower]."""

    digest: str
    style: str
    limits: Limits
    policy: ApplyPolicy


class Feed(msgspec.Struct, frozen=True, tag=True):
    """Inflate and verify a layer for sinks: [blob, pipes of the first pass …, of the next …]."""

    digest: str
    size: int
    diff_id: str
    passes: int
    limits: Limits


class Sink(msgspec.Struct, frozen=True, tag=True):
    """Apply what a feeder writes: [directory, pipe of each pass …, lower?]."""

    digest: str
    style: str
    base: bool
    passes: int
    limits: Limits
    policy: ApplyPolicy


class Own(msgspec.Struct, frozen=True, tag=True):
    """Have a plugin apply what a feeder writes: [directory, pipe]."""

    digest: str
    plugin: str
    options: dict[str, bool | int | str | tuple[str, ...]]
    limits: Limits


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The worker runs; its pidfd comes along."""


class Read(msgspec.Struct, frozen=True, tag=True):
    """So many compressed bytes have been read."""

    count: int


class Opaque(msgspec.Struct, frozen=True, tag=True):
    """Please mark the directory that comes along opaque."""


class Marked(msgspec.Struct, frozen=True, tag=True):
    """The directory is marked; `error` is an errno, 0 for success."""

    error: int = 0


class Done(msgspec.Struct, frozen=True, tag=True):
    """The layer is applied and all its digests match."""

    entries: int
    size: int
    skipped: dict[str, int]


class Again(msgspec.Struct, frozen=True, tag=True):
    """It must be done again in a fresh target: whiteouts first, or in order."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The layer could not be applied; the error by the name of its class."""

    kind: str
    message: str


Job: TypeAlias = Layer | Apart | Settle | Feed | Sink | Own
FromWorker: TypeAlias = Hello | Read | Opaque | Done | Again | Failed

_from_worker: Final[msgspec.msgpack.Decoder[FromWorker]] = msgspec.msgpack.Decoder(FromWorker)
_job: Final[msgspec.msgpack.Decoder[Job]] = msgspec.msgpack.Decoder(Job)
_marked: Final = msgspec.msgpack.Decoder(Marked)


def encode(message: Job | FromWorker | Marked) -> bytes:
    """Return the bytes of a message."""
    return msgspec.msgpack.encode(message)


def decode_job(data: bytes) -> Job:
    """Parse what the zygote received."""
    return _job.decode(data)


def decode_marked(data: bytes) -> Marked:
    """Parse the parent's answer to an Opaque."""
    return _marked.decode(data)


def decode_from_worker(data: bytes) -> FromWorker:
    """Parse a worker's message; the worker has read hostile bytes, so nothing is assumed.

    Raises:
        ContractError: it is not a message.
    """
    try:
        return _from_worker.decode(data)
    except msgspec.MsgspecError as error:
        raise ContractError(f"worker process sent nonsense: {error}") from error


def failure(error: SnapcoreError) -> Failed:
    """Return the message that carries an error to the parent."""
    return Failed(type(error).__name__, str(error)[:_MAX_TEXT])


def revive(message: Failed) -> SnapcoreError:
    """Return the error that a worker reported."""
    return error_class(message.kind)(message.message)
