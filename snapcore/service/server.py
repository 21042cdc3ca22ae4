"""The server: the services on one unix socket, and the end of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import grpc

from snapcore.errors import Unavailable
from snapcore.service.address import claimed, socket_path
from snapcore.service.backends import Backends
from snapcore.service.calls import CallRecord, Observer
from snapcore.service.health import Health, health_handler
from snapcore.service.introspection import introspection_handler
from snapcore.service.names import MESSAGE_BYTES, SNAPSHOTS
from snapcore.service.relay import Relay
from snapcore.service.snapshots import snapshots_handler
from snapcore.service.traces import Tracing, tracer_here
from snapcore.snapshots import Snapshotter

DRAIN_SECONDS: Final = 3.0
"""How long calls may go on that were under way when the end came; then they are cancelled."""
_THREADS: Final = 256
"""Of calls that work, wait for their turn, or for their client to send or read."""
_CALLS_OF_A_CLIENT: Final = 128
_HEALTH_THREADS: Final = 2
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", _CALLS_OF_A_CLIENT),
)


@contextmanager
def serving(
    path: str,
    snapshotters: Sequence[Snapshotter],
    observers: Sequence[Observer] = (),
    listener: socket.socket | None = None,
) -> Iterator[None]:
    """Serve snapshotters at a unix socket for the duration of a `with` block.

    At its end no new calls are taken; those under way have `DRAIN_SECONDS`.

    Args:
        path: of the socket; its directory is made if it is not there.
        snapshotters: what requests choose from by name.
        observers: told of every call.
        listener: somebody else's, which listens at `path` already and will after us; closed here.

    Raises:
        SnapcoreError: as `claimed`.
        Unavailable: nothing can listen there.
    """

    def observe(call: CallRecord) -> None:
        for observer in observers:
            observer(call)

    health = Health(SNAPSHOTS)
    place = path if listener is None else socket_path(f"{path}.own")
    with (
        claimed(place),
        ThreadPoolExecutor(_HEALTH_THREADS, "snapcore-health") as reserve,
        ThreadPoolExecutor(_THREADS, "snapcore-call") as threads,
    ):
        handlers = (
            snapshots_handler(Backends(snapshotters), observe),
            introspection_handler(tuple(snapshotters), observe),
            health_handler(health, observe, reserve),
        )
        tracer = tracer_here()
        interceptors = (Tracing(tracer),) if tracer else ()
        server = grpc.server(threads, handlers, interceptors, _OPTIONS)
        relay = None if listener is None else Relay(listener, place)
        try:
            _start(server, place)
            if relay:
                relay.start()
            yield
        finally:
            if relay:
                relay.refuse()
            health.stop()
            server.stop(DRAIN_SECONDS).wait()
            if relay:
                relay.close()


def _start(server: grpc.Server, path: str) -> None:
    try:
        server.add_insecure_port(f"unix:{path}")
        # One that has not been started cannot be stopped, and would keep its socket.
        server.start()
        os.chmod(path, 0o600)
    except (RuntimeError, OSError) as error:
        raise Unavailable(f"cannot listen at {path!r}: {error}") from error
