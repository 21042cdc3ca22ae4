"""A connection to a unix socket on which somebody speaks gRPC: calls, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import grpc

from snapcore.errors import FailedPrecondition, SnapcoreError, Unavailable
from snapcore.service.address import socket_path
from snapcore.service.calls import Message
from snapcore.service.codes import failure
from snapcore.service.names import MESSAGE_BYTES
from snapcore.snapshots import Checkpoint, no_checkpoint

CALL_SECONDS: Final = 300.0
"""How long a call may take unless somebody says otherwise: backends that copy take their time."""

POLL_SECONDS: Final = 0.05
"""How often a caller is asked, while a call is under way, whether it still wants it."""

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    # A socket's path is no host name: strict servers reset streams that name it.
    ("grpc.default_authority", "localhost"),
    # Connections to one socket are otherwise shared in the process, and outlive their channel.
    ("grpc.use_local_subchannel_pool", 1),
    # A call that was sent may have been carried out.
    ("grpc.enable_retries", 0),
    # A server that starts again is found as soon as it is there.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

_A = TypeVar("_A", bound=Message)
_A_co = TypeVar("_A_co", bound=Message, covariant=True)


def namespaced(namespace: str, lease: str = "") -> dict[str, str]:
    """Return the headers by which containerd knows whose a call is."""
    headers = {"containerd-namespace": namespace}
    if lease:
        headers["containerd-lease"] = lease
    return headers


class _Call(Protocol[_A_co]):
    """What we need of gRPC's call under way."""

    def result(self, timeout: float, /) -> _A_co:
        """Return the answer."""

    def cancel(self) -> bool:
        """End it."""


@dataclass(frozen=True, slots=True)
class Method(Generic[_A]):
    """One method of a service.

    Attributes:
        service: its full name.
        name: such as `Prepare`.
        answer: class of the answer, or of each part of it.
    """

    service: str
    name: str
    answer: type[_A]

    @property
    def path(self) -> str:
        """What gRPC calls it."""
        return f"/{self.service}/{self.name}"


class Connection:
    """Calls to what listens at one socket; safe for any number of threads.

    It connects with the first call, and again after the other side was started anew.

    Args:
        address: a path, or `unix://` and a path.
        headers: sent with each call.
        seconds: how long each may take.

    Raises:
        InvalidArgument: another kind of address.
    """

    def __init__(self, address: str, headers: Mapping[str, str], seconds: float) -> None:
        self.path: Final = socket_path(address)
        self._headers: Final = tuple(headers.items())
        self._seconds: Final = seconds
        self._channel: Final = grpc.insecure_channel(f"unix:{self.path}", options=_OPTIONS)
        self._guard = threading.Lock()
        self._open = True

    def call(
        self, method: Method[_A], request: Message, checkpoint: Checkpoint = no_checkpoint
    ) -> _A:
        """Make a call and return its answer.

        Args:
            method: what to call.
            request: a message of the class that it takes.
            checkpoint: asked before, and again and again meanwhile; what it raises ends the call.

        Raises:
            Unavailable: nobody listens; or the other side went away, or took too long.
            FailedPrecondition: the connection is closed.
            SnapcoreError: what the other side answered.
        """
        send = self._channel.unary_unary(
            method.path, type(request).SerializeToString, method.answer.FromString
        )
        checkpoint()
        with self._understood():
            if checkpoint is no_checkpoint:
                answer: _A = send(request, timeout=self._seconds, metadata=self._headers)
                return answer
            under_way: _Call[_A] = send.future(
                request, timeout=self._seconds, metadata=self._headers
            )
            return _awaited(under_way, checkpoint)

    def stream(
        self,
        method: Method[_A],
        request: Message,
        begun: Callable[[Callable[[], object]], None] = lambda _: None,
    ) -> Generator[_A, None, None]:
        """Make a call whose answer comes in parts, and yield them.

        Args:
            method: what to call.
            request: a message of the class that it takes.
            begun: given what ends the call, from any thread.

        Raises:
            Unavailable, FailedPrecondition, SnapcoreError: as `call`.
        """
        send = self._channel.unary_stream(
            method.path, type(request).SerializeToString, method.answer.FromString
        )
        with self._understood():
            parts = send(request, timeout=self._seconds, metadata=self._headers)
            begun(parts.cancel)
            try:
                yield from parts
            finally:
                parts.cancel()

    def close(self) -> bool:
        """Hang up; True if it was open. Calls under way end."""
        with self._guard:
            was_open, self._open = self._open, False
        self._channel.close()
        return was_open

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Turn what gRPC raises into our tree."""
        try:
            yield
        except grpc.RpcError as error:
            raise self._failure(error.code(), error.details() or "") from error
        except (ValueError, grpc.FutureCancelledError) as error:
            if self._open:
                raise
            raise FailedPrecondition(f"the connection to {self.path!r} is closed") from error

    def _failure(self, code: grpc.StatusCode, details: str) -> SnapcoreError:
        if code is grpc.StatusCode.UNAVAILABLE:
            return Unavailable(
                f"no service at {self.path!r}, or it went away: {' '.join(details.split())};"
                " start `snapcore serve` or containerd there"
            )
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unavailable(f"no answer from {self.path!r} within {self._seconds:g} s")
        return failure(code, details)


def _awaited(call: _Call[_A], checkpoint: Checkpoint) -> _A:
    try:
        while True:
            try:
                return call.result(POLL_SECONDS)
            except grpc.FutureTimeoutError:
                checkpoint()
    finally:
        # Of what has ended it does nothing.
        call.cancel()
