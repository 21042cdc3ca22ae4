"""A gRPC server that answers what a test says: for what no server of ours or containerd's does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import grpc

Unary: TypeAlias = Callable[[bytes, grpc.ServicerContext], bytes]
Stream: TypeAlias = Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]


@dataclass(frozen=True)
class Service:
    """What is answered in the name of one service; its other methods are unknown.

    Attributes:
        name: its full name.
        unary: by method, what makes the bytes of the one answer.
        streams: by method, what makes those of each part.
    """

    name: str
    unary: Mapping[str, Unary] = field(default_factory=dict)
    streams: Mapping[str, Stream] = field(default_factory=dict)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return gRPC's handler of it."""
        one, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        methods = {name: one(work) for name, work in self.unary.items()}
        methods |= {name: many(work) for name, work in self.streams.items()}
        return grpc.method_handlers_generic_handler(self.name, methods)


@contextmanager
def answering(path: Path, *services: Service) -> Iterator[grpc.Server]:
    """Serve at a socket for the duration of a `with` block; all other services are unknown."""
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads, handlers=[service.handler() for service in services])
        server.add_insecure_port(f"unix:{path}")
        server.start()
        try:
            yield server
        finally:
            server.stop(0).wait()
