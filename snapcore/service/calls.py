"""One call: from the bytes of a request to an answer or an error, and who is told of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Generic, NoReturn, Protocol, Self, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError

from snapcore.errors import InvalidArgument, Unavailable
from snapcore.service.codes import status
from snapcore.snapshots import Checkpoint


class Message(Protocol):
    """What we need of a generated message."""

    @classmethod
    def FromString(cls, data: bytes, /) -> Self:  # noqa: N802 - protobuf's name
        """Parse one."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return its bytes."""


class Context(Protocol):
    """What we need of gRPC's context of a call."""

    def add_callback(self, callback: Callable[[], None], /) -> bool:
        """Have `callback` called when the call ends; False if it has ended."""

    def abort(self, code: grpc.StatusCode, details: str, /) -> NoReturn:
        """End the call with an error, by an exception that gRPC knows."""


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What is known of a call that is over.

    Attributes:
        method: such as `Prepare`.
        snapshotter: as the request has it, which may be a name of the client's own; shortened.
        key: of the snapshot, "" if the request names none; shortened.
        code: such as `OK` or `NOT_FOUND`.
        error: class of a failure, such as `NotFound`, "" for none.
        message: what the client was told of a failure, "" for none.
        seconds: how long it took.
        failure: where an unforeseen failure came from, None else.
    """

    method: str
    snapshotter: str
    key: str
    code: str
    error: str
    message: str
    seconds: float
    failure: BaseException | None


_LOOK_SECONDS: Final = 0.1
_MOST_CHARACTERS: Final = 256

Observer: TypeAlias = Callable[[CallRecord], None]
"""Told of each call when it is over, in the thread that served it; it must not raise."""

_Q = TypeVar("_Q", bound=Message)
_A = TypeVar("_A", bound=Message)
Unary: TypeAlias = Callable[[_Q, Checkpoint], _A]
Stream: TypeAlias = Callable[[_Q, Checkpoint], Iterator[_A]]


@dataclass(frozen=True, slots=True)
class Malformed:
    """A request that could not be parsed."""

    reason: str


class _Answer(Generic[_Q, _A]):
    """A method that gives one answer, as gRPC calls it.

    Attributes:
        experimental_thread_pool: where gRPC calls it, None for the server's own threads
            (grpc, _server.py).
    """

    def __init__(
        self,
        method: str,
        work: Unary[_Q, _A],
        observe: Observer,
        threads: ThreadPoolExecutor | None,
    ) -> None:
        self._method, self._work, self._observe = method, work, observe
        self.experimental_thread_pool: Final = threads

    def __call__(self, request: _Q | Malformed, context: Context) -> _A:
        with _call(self._method, request, context, self._observe) as checkpoint:
            return self._work(_sound(request), checkpoint)


def taking_turns(work: Unary[_Q, _A], slots: threading.Semaphore) -> Unary[_Q, _A]:
    """Return the same work, which waits until one of `slots` is free, or its client has gone.

    Not the threads are what is bounded: gRPC has one wait for the request of each call.
    """

    def limited(request: _Q, checkpoint: Checkpoint) -> _A:
        while not slots.acquire(timeout=_LOOK_SECONDS):
            checkpoint()
        try:
            checkpoint()
            return work(request, checkpoint)
        finally:
            slots.release()

    return limited


def unary(
    method: str,
    work: Unary[_Q, _A],
    request_class: type[_Q],
    observe: Observer,
    threads: ThreadPoolExecutor | None = None,
) -> grpc.RpcMethodHandler:
    """Return gRPC's handler of a method that gives one answer.

    Args:
        method: its name.
        work: what it does.
        request_class: of its requests.
        observe: told of each call.
        threads: where it runs, so that it waits for no other method; None for all others.
    """
    answer = _Answer(method, work, observe, threads)
    return grpc.unary_unary_rpc_method_handler(
        answer, _parser(request_class), lambda message: message.SerializeToString()
    )


def stream(
    method: str, work: Stream[_Q, _A], request_class: type[_Q], observe: Observer
) -> grpc.RpcMethodHandler:
    """Return gRPC's handler of a method whose answer is a stream."""

    def answer(request: _Q | Malformed, context: Context) -> Iterator[_A]:
        with _call(method, request, context, observe) as checkpoint:
            yield from work(_sound(request), checkpoint)

    return grpc.unary_stream_rpc_method_handler(
        answer, _parser(request_class), lambda message: message.SerializeToString()
    )


def _parser(kind: type[_Q]) -> Callable[[bytes], _Q | Malformed]:
    """Return a parser that does not raise: gRPC would answer that with an internal error."""

    def parse(data: bytes) -> _Q | Malformed:
        try:
            return kind.FromString(data)
        except DecodeError as error:
            return Malformed(str(error))

    return parse


def _sound(request: _Q | Malformed) -> _Q:
    if isinstance(request, Malformed):
        raise InvalidArgument(f"the request is no such message: {request.reason}")
    return request


@contextmanager
def _call(
    method: str, request: object, context: Context, observe: Observer
) -> Iterator[Checkpoint]:
    """Carry a call out: its end reaches the work, and its failure the client."""
    ended: Final = threading.Event()
    began = time.monotonic()
    code, kind, message, failure = grpc.StatusCode.OK, "", "", None

    def checkpoint() -> None:
        if ended.is_set():
            raise Unavailable("the client has gone away, or its deadline is over")

    try:
        if not context.add_callback(ended.set):
            ended.set()
        # It may have waited for a thread longer than its client did.
        checkpoint()
        yield checkpoint
    except GeneratorExit:
        code = grpc.StatusCode.CANCELLED
        raise
    except Exception as error:  # noqa: BLE001 - the edge: whatever it is, the client is told
        kind = type(error).__name__
        code, message = status(error)
        if ended.is_set() and isinstance(error, Unavailable):
            code = grpc.StatusCode.CANCELLED
        failure = error if code is grpc.StatusCode.INTERNAL else None
    finally:
        seconds = time.monotonic() - began
        named = named_in(request)
        observe(CallRecord(method, *named, code.name, kind, message, seconds, failure))
    if code is not grpc.StatusCode.OK:
        context.abort(code, message)


def named_in(request: object) -> tuple[str, str]:
    """Return the snapshotter and the snapshot that a request is about, as short as is told."""
    # Of an update, its info has the key. One that is refused may be as long as a message.
    about = getattr(request, "info", request)
    key = getattr(about, "key", "") or getattr(about, "name", "")
    snapshotter = str(getattr(request, "snapshotter", ""))
    return snapshotter[:_MOST_CHARACTERS], str(key)[:_MOST_CHARACTERS]
