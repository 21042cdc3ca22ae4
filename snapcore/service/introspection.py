"""containerd's introspection service, as far as a client asks it: which snapshotters there are.

What they can do is nowhere in the snapshots service; our client asks here, and containerd of
itself what it has.
"""

from __future__ import annotations

import grpc

from snapcore.filters import record_fields
from snapcore.service.calls import Observer, unary
from snapcore.service.names import INTROSPECTION, SNAPSHOTTER_TYPE, capability_word
from snapcore.service.patterns import accepting
from snapcore.service.proto import introspection_pb2 as messages
from snapcore.snapshots import Checkpoint, Snapshotter


class Introspection:
    """What is served, as plugins of a daemon."""

    def __init__(self, snapshotters: tuple[Snapshotter, ...]) -> None:
        self._snapshotters = snapshotters

    def plugins(
        self,
        request: messages.PluginsRequest,
        checkpoint: Checkpoint,  # noqa: ARG002 - nothing to stop
    ) -> messages.PluginsResponse:
        """Return the snapshotters that pass the filters.

        Raises:
            InvalidArgument: a filter does not parse, or they are too long.
        """
        accept = accepting(request.filters, ("type", "id"))
        return messages.PluginsResponse(
            plugins=[
                messages.Plugin(
                    type=SNAPSHOTTER_TYPE,
                    id=each.name,
                    capabilities=sorted(map(capability_word, each.capabilities)),
                )
                for each in self._snapshotters
                if accept(record_fields({"type": SNAPSHOTTER_TYPE, "id": each.name}, {}))
            ]
        )


def introspection_handler(
    snapshotters: tuple[Snapshotter, ...], observe: Observer
) -> grpc.GenericRpcHandler:
    """Return gRPC's handler of the service."""
    work = Introspection(snapshotters)
    methods = {"Plugins": unary("Plugins", work.plugins, messages.PluginsRequest, observe)}
    return grpc.method_handlers_generic_handler(INTROSPECTION, methods)
