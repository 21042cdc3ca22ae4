"""snapcore: container images into mountable root filesystems through pluggable snapshotters.

    async with snapcore.open_node(root="/var/lib/snapcore") as node:
        await node.pull("registry.example/app:1")
        with node.mounted("registry.example/app:1") as directory:
            ...

Names are loaded on first use, so that importing the package, and `snapcore --help`, stay cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snapcore.config import NodeConfig as NodeConfig
    from snapcore.node import Node as Node
    from snapcore.node import PullOptions as PullOptions
    from snapcore.node import PullResult as PullResult
    from snapcore.node import PushOptions as PushOptions
    from snapcore.node import UnpackChoice as UnpackChoice
    from snapcore.node import open_node as open_node

__version__ = "0.1.0"

_HOMES = {
    "Node": "node",
    "NodeConfig": "config",
    "PullOptions": "node",
    "PullResult": "node",
    "PushOptions": "node",
    "UnpackChoice": "node",
    "open_node": "node",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
