"""Images unpacked into a snapshotter that the test has opened itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from snapcore.archive import tree_digest
from snapcore.config import NodeConfig
from snapcore.node import Node, UnpackChoice
from snapcore.snapshots import Snapshotter


@contextmanager
def node_on(root: Path, snapshotter: Snapshotter | None = None) -> Iterator[Node]:
    """Open a node, with a snapshotter in the place of its own, for a `with` block."""
    with Node.open(NodeConfig.at(str(root))) as opened:
        if snapshotter is not None:
            opened.snapshotters._opened[snapshotter.name] = snapshotter
        yield opened


def unpacked_digest(node: Node, layout: str, backend: str) -> str:
    """Import the image, and return the digest of its tree."""

    async def run() -> None:
        choice = UnpackChoice(snapshotters=(backend,))
        await node.import_(layout, name="example/app", choice=choice)

    trio.run(run)
    with node.mounted("example/app", snapshotter=backend) as root:
        return str(tree_digest(root))
