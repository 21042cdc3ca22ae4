"""Opening what is behind a socket, and asking what it can do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from snapcore.errors import Unimplemented
from snapcore.service.client.backend import ServiceSnapshotter
from snapcore.service.client.connection import CALL_SECONDS, Connection, Method, namespaced
from snapcore.service.names import INTROSPECTION, SNAPSHOTTER_TYPE, capability_word
from snapcore.service.proto import introspection_pb2
from snapcore.snapshots import (
    Capability,
    Probe,
    Snapshotter,
    Trace,
    WrapperChoice,
    open_backend,
)

_PLUGINS: Final = Method(INTROSPECTION, "Plugins", introspection_pb2.PluginsResponse)
_BY_WORD: Final = {
    capability_word(each): each for each in Capability if each is not Capability.OWN_APPLY
}
"""Whoever applies layers by itself does so by a hook that no service has."""


def open_service(
    address: str,
    snapshotter: str,
    *,
    namespace: str = "default",
    lease: str = "",
    timeout: float = CALL_SECONDS,
    capabilities: Collection[Capability] = (),
    wrappers: Sequence[WrapperChoice] = (),
    trace: Trace | None = None,
) -> Snapshotter:
    """Open a snapshotter behind a socket: one that `snapcore serve` serves, or containerd's own.

    What a commit survives is up to the other side. `snapcore serve` answers when it is on disk.
    containerd does not say, so a `flush` here does nothing and an info is always `durable`.

    Args:
        address: the socket: a path, or `unix://` and a path.
        snapshotter: what the other side calls it.
        namespace: of containerd, which keeps those apart; `snapcore serve` has none.
        lease: of containerd, in that namespace: keeps what is made from its collector.
        timeout: seconds that each call may take.
        capabilities: what it can do beyond what it says of itself; containerd's snapshotters say
            little.
        wrappers: go around its hooks, the first one outermost.
        trace: is told about every hook call.

    Returns:
        The snapshotter, which the caller closes.

    Raises:
        InvalidArgument: not the address of a unix socket.
        Unavailable: nobody listens there.
        NotFound, FailedPrecondition, ContractError: a wrapper cannot be loaded, or breaks the
            contract.
    """
    connection = Connection(address, namespaced(namespace, lease), timeout)
    try:
        said = _capabilities(connection, snapshotter)
    except BaseException:
        connection.close()
        raise
    able = said | frozenset(capabilities)
    probe = Probe(
        usable=True,
        capabilities=able,
        details={"address": connection.path, "namespace": namespace},
    )
    return open_backend(
        snapshotter,
        f"unix://{connection.path}",
        ServiceSnapshotter(connection, snapshotter, able),
        probe,
        wrappers=wrappers,
        trace=trace,
    )


def _capabilities(connection: Connection, snapshotter: str) -> frozenset[Capability]:
    request = introspection_pb2.PluginsRequest(filters=[f"type=={SNAPSHOTTER_TYPE}"])
    try:
        plugins = list(connection.call(_PLUGINS, request).plugins)
    except Unimplemented:
        # Another proxy plugin of containerd's; they need not answer this.
        return frozenset()
    # An only one answers to any name.
    found = [each for each in plugins if each.id == snapshotter or len(plugins) == 1]
    words = {word for each in found for word in each.capabilities}
    return frozenset(_BY_WORD[word] for word in words & _BY_WORD.keys())
