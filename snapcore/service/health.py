"""gRPC's health checking protocol: whether this process serves.

Source: grpc/grpc, doc/health-checking.md. `Watch` is left out, as the protocol allows; its clients
take "unimplemented" for "healthy".
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc

from snapcore.errors import NotFound
from snapcore.service.calls import Observer, unary
from snapcore.service.proto import health_pb2
from snapcore.snapshots import Checkpoint

SERVICE: Final = "grpc.health.v1.Health"


class Health:
    """Whether this process takes calls."""

    def __init__(self, *services: str) -> None:
        """See `check`; `services` are those that may be asked for by name."""
        self._services = frozenset({"", *services})
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Say from now on that nothing is served."""
        self._stopping.set()

    def check(
        self,
        request: health_pb2.HealthCheckRequest,
        checkpoint: Checkpoint,  # noqa: ARG002 - nothing to stop
    ) -> health_pb2.HealthCheckResponse:
        """Say whether a service takes calls.

        Raises:
            NotFound: there is no such service here.
        """
        if request.service not in self._services:
            raise NotFound(f"service {request.service!r} is not served here")
        answers = health_pb2.HealthCheckResponse
        stopping = self._stopping.is_set()
        return answers(status=answers.NOT_SERVING if stopping else answers.SERVING)


def health_handler(
    health: Health, observe: Observer, threads: ThreadPoolExecutor
) -> grpc.GenericRpcHandler:
    """Return gRPC's handler of the service.

    Args:
        health: what it tells.
        observe: told of each call.
        threads: its own, so that it answers while all others are busy.
    """
    check = unary("Check", health.check, health_pb2.HealthCheckRequest, observe, threads)
    return grpc.method_handlers_generic_handler(SERVICE, {"Check": check})
