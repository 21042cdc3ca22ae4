"""snapcore: container images into mountable root filesystems through pluggable snapshotters.

    async with snapcore.open_node(root="/var/lib/snapcore") as node:
        await node.pull("registry.example/app:1")
        with node.mounted("registry.example/app:1") as directory:
            ...

Names are loaded on first use, so that importing the package, and `snapcore --help`, stay cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapcore.lazily import on_first_use

if TYPE_CHECKING:
    from snapcore.config import NodeConfig as NodeConfig
    from snapcore.node import Node as Node
    from snapcore.node import PullOptions as PullOptions
    from snapcore.node import PullResult as PullResult
    from snapcore.node import PushOptions as PushOptions
    from snapcore.node import UnpackChoice as UnpackChoice
    from snapcore.node import open_node as open_node

__version__ = "0.1.0"

__getattr__ = on_first_use(
    __name__,
    {
        "Node": "node",
        "NodeConfig": "config",
        "PullOptions": "node",
        "PullResult": "node",
        "PushOptions": "node",
        "UnpackChoice": "node",
        "open_node": "node",
    },
)
