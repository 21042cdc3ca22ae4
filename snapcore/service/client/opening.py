"""Opening what is behind a socket, and asking what it can do."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from snapcore.errors import Unimplemented
from snapcore.service.client.backend import ServiceSnapshotter
from snapcore.service.client.connection import CALL_SECONDS, Connection, Method, namespaced
from snapcore.service.names import INTROSPECTION, PLUGIN_PREFIX, SNAPSHOTTER_TYPE, capability_word
from snapcore.service.proto import introspection_pb2
from snapcore.snapshots import (
    Capability,
    Probe,
    RootSync,
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
    containerd writes down that a snapshot is committed, and leaves its files to the kernel: these
    are put on disk by `flush`, and so by each commit, where it tells its root.

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
        said = _asked(connection, snapshotter)
        medium = RootSync(said.root) if said.root else None
    except BaseException:
        connection.close()
        raise
    able = said.capabilities | frozenset(capabilities)
    probe = Probe(
        usable=True,
        capabilities=able,
        details={"address": connection.path, "namespace": namespace},
    )
    return open_backend(
        snapshotter,
        said.root or f"unix://{connection.path}",
        ServiceSnapshotter(connection, snapshotter, able, medium),
        probe,
        wrappers=wrappers,
        trace=trace,
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """What the other side says of a snapshotter.

    Attributes:
        capabilities: what it can do.
        root: its state root, if it tells that and it is a directory here; "" else.
    """

    capabilities: frozenset[Capability] = frozenset()
    root: str = ""


def _asked(connection: Connection, snapshotter: str) -> _Said:
    request = introspection_pb2.PluginsRequest(filters=[f"type=={SNAPSHOTTER_TYPE}"])
    try:
        plugins = {each.id: each for each in connection.call(_PLUGINS, request).plugins}
    except Unimplemented:
        # Another proxy plugin of containerd's; they need not answer this.
        return _Said()
    found = plugins.get(snapshotter) or plugins.get(snapshotter.removeprefix(PLUGIN_PREFIX))
    if found is None and len(plugins) == 1:
        # An only one answers to any name.
        (found,) = plugins.values()
    if found is None:
        return _Said()
    words = _BY_WORD.keys() & set(found.capabilities)
    root = found.exports.get("root", "")
    return _Said(
        frozenset(_BY_WORD[word] for word in words),
        root if os.path.isabs(root) and os.path.isdir(root) else "",
    )
