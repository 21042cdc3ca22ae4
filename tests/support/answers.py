"""A gRPC server that answers what a test says: for what no server of ours or containerd's does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import grpc

Unary: TypeAlias = Callable[[bytes, grpc.ServicerContext], bytes]
Stream: TypeAlias = Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]


@contextmanager
def answering(
    path: Path,
    service: str,
    *,
    unary: Mapping[str, Unary] | None = None,
    streams: Mapping[str, Stream] | None = None,
) -> Iterator[None]:
    """Serve at a socket for the duration of a `with` block.

    Args:
        path: of the socket.
        service: full name of the service; all others are unknown there.
        unary: by method, what makes the bytes of the one answer.
        streams: by method, what makes those of each part.
    """
    methods = {
        **{name: grpc.unary_unary_rpc_method_handler(work) for name, work in (unary or {}).items()},
        **{
            name: grpc.unary_stream_rpc_method_handler(work)
            for name, work in (streams or {}).items()
        },
    }
    handler = grpc.method_handlers_generic_handler(service, methods)
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads, handlers=[handler])
        server.add_insecure_port(f"unix:{path}")
        server.start()
        try:
            yield
        finally:
            server.stop(0).wait()
