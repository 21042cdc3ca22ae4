"""Opening a node from async code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio

from snapcore.config import NodeConfig
from snapcore.errors import InvalidArgument
from snapcore.node.node import Node


@asynccontextmanager
async def open_node(
    config: NodeConfig | None = None,
    *,
    root: str = "",
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Node]:
    """Open a node for the duration of an `async with` block.

    Args:
        config: the whole configuration; or
        root: only a root, with defaults for everything else.
        environment: see `Node.open`.

    Yields:
        The node.

    Raises:
        InvalidArgument: both or neither are given.
        SnapcoreError: as `Node.open`.
    """
    if (config is None) == (not root):
        raise InvalidArgument("open_node takes either a config or a root")
    chosen = config or NodeConfig.at(root)
    node = await trio.to_thread.run_sync(lambda: Node.open(chosen, environment=environment))
    flush = False
    try:
        yield node
        flush = True
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(lambda: node.close(flush=flush))
