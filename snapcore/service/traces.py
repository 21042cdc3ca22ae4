"""A span for each call (OpenTelemetry), in the trace that its client names by `traceparent`.

Only where this process has been given a tracer provider, as `opentelemetry-instrument` does; else
nothing is imported and no call is touched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import grpc

from snapcore.service.calls import named_in
from snapcore.service.names import SNAPSHOTS

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

# Of the others the caller is at fault (opentelemetry.io, semantic conventions for gRPC).
_OUR_FAULT: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class _Context(Protocol):
    def code(self) -> grpc.StatusCode | None: ...
    def details(self) -> str | None: ...
    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]: ...


class _Details(Protocol):
    method: str


def tracer_here() -> Tracer | None:
    """Return the tracer of the provider that this process was given, None if it was given none."""
    # Whoever has set a provider has imported this.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    tracer: Tracer = trace.get_tracer("snapcore.service")
    return tracer


class Tracing(grpc.ServerInterceptor):  # type: ignore[misc]  # gRPC has no types
    """Makes a span of each call of the snapshots service; of questions for health none."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer: Final = tracer

    def intercept_service(
        self,
        continuation: Callable[[_Details], grpc.RpcMethodHandler | None],
        handler_call_details: _Details,
    ) -> grpc.RpcMethodHandler | None:
        """Return the handler of a call, wrapped (grpc.ServerInterceptor)."""
        handler = continuation(handler_call_details)
        service, _, method = handler_call_details.method[1:].rpartition("/")
        if handler is None or service != SNAPSHOTS:
            return handler
        work = handler.unary_stream or handler.unary_unary

        def answer(request: object, context: _Context) -> object:
            with self._span(method, request, context, current=True):
                return work(request, context)

        def stream(request: object, context: _Context) -> Iterator[object]:
            # Never the current one: a generator may be closed by another thread.
            with self._span(method, request, context, current=False):
                yield from work(request, context)

        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                stream, handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )

    @contextmanager
    def _span(
        self, method: str, request: object, context: _Context, *, current: bool
    ) -> Iterator[None]:
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, use_span

        names = {k: v for k, v in context.invocation_metadata() if isinstance(v, str)}
        snapshotter, key = named_in(request)
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": SNAPSHOTS,
            "rpc.method": method,
            "snapcore.snapshotter": snapshotter,
            "snapcore.key": key,
        }
        span = self._tracer.start_span(
            f"{SNAPSHOTS}/{method}", extract(names), SpanKind.SERVER, attributes
        )
        code = grpc.StatusCode.OK
        try:
            if current:
                with use_span(span, record_exception=False, set_status_on_exception=False):
                    yield
            else:
                yield
        except GeneratorExit:
            code = grpc.StatusCode.CANCELLED
            raise
        finally:
            _end(span, context, context.code() or code)


def _end(span: Span, context: _Context, code: grpc.StatusCode) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if code in _OUR_FAULT:
        details = context.details() or ""
        span.set_status(Status(StatusCode.ERROR, str(details)))
    span.end()
