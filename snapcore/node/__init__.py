"""The node joins the rooms: pull, import, unpack, mount, remove.

Names are loaded on first use, so that a verb pays for what it does only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snapcore.node.images import Images as Images
    from snapcore.node.images import LocatedManifest as LocatedManifest
    from snapcore.node.indexing import IndexedImage as IndexedImage
    from snapcore.node.indexing import IndexedLayer as IndexedLayer
    from snapcore.node.indexing import IndexOptions as IndexOptions
    from snapcore.node.indexing import index_image as index_image
    from snapcore.node.indexing import publish_indexes as publish_indexes
    from snapcore.node.integrity import Integrity as Integrity
    from snapcore.node.integrity import SnapshotCheck as SnapshotCheck
    from snapcore.node.integrity import Verdict as Verdict
    from snapcore.node.node import Node as Node
    from snapcore.node.opening import open_node as open_node
    from snapcore.node.recovery import DamagedBlob as DamagedBlob
    from snapcore.node.recovery import Recovery as Recovery
    from snapcore.node.repair import Repair as Repair
    from snapcore.node.selection import Snapshotters as Snapshotters
    from snapcore.node.values import CommitOptions as CommitOptions
    from snapcore.node.values import CommittedImage as CommittedImage
    from snapcore.node.values import ImageCheck as ImageCheck
    from snapcore.node.values import ImageInspection as ImageInspection
    from snapcore.node.values import Policy as Policy
    from snapcore.node.values import PullOptions as PullOptions
    from snapcore.node.values import PullResult as PullResult
    from snapcore.node.values import PushOptions as PushOptions
    from snapcore.node.values import UnpackChoice as UnpackChoice
    from snapcore.unpack import LayerReport as LayerReport

_HOMES = {
    "Images": "snapcore.node.images",
    "LocatedManifest": "snapcore.node.images",
    "IndexedImage": "snapcore.node.indexing",
    "IndexedLayer": "snapcore.node.indexing",
    "IndexOptions": "snapcore.node.indexing",
    "index_image": "snapcore.node.indexing",
    "publish_indexes": "snapcore.node.indexing",
    "Integrity": "snapcore.node.integrity",
    "SnapshotCheck": "snapcore.node.integrity",
    "Verdict": "snapcore.node.integrity",
    "Node": "snapcore.node.node",
    "open_node": "snapcore.node.opening",
    "DamagedBlob": "snapcore.node.recovery",
    "Recovery": "snapcore.node.recovery",
    "Repair": "snapcore.node.repair",
    "Snapshotters": "snapcore.node.selection",
    "CommitOptions": "snapcore.node.values",
    "CommittedImage": "snapcore.node.values",
    "ImageCheck": "snapcore.node.values",
    "ImageInspection": "snapcore.node.values",
    "Policy": "snapcore.node.values",
    "PullOptions": "snapcore.node.values",
    "PullResult": "snapcore.node.values",
    "PushOptions": "snapcore.node.values",
    "UnpackChoice": "snapcore.node.values",
    "LayerReport": "snapcore.unpack",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
