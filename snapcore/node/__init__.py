"""The node joins the rooms: pull, import, unpack, mount, remove.

Names are loaded on first use, so that a verb pays for what it does only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapcore.lazily import on_first_use

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
    from snapcore.node.served import ServedImages as ServedImages
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

__getattr__ = on_first_use(
    __name__,
    {
        "Images": "images",
        "LocatedManifest": "images",
        "IndexedImage": "indexing",
        "IndexedLayer": "indexing",
        "IndexOptions": "indexing",
        "index_image": "indexing",
        "publish_indexes": "indexing",
        "Integrity": "integrity",
        "SnapshotCheck": "integrity",
        "Verdict": "integrity",
        "Node": "node",
        "open_node": "opening",
        "DamagedBlob": "recovery",
        "Recovery": "recovery",
        "Repair": "repair",
        "Snapshotters": "selection",
        "ServedImages": "served",
        "CommitOptions": "values",
        "CommittedImage": "values",
        "ImageCheck": "values",
        "ImageInspection": "values",
        "Policy": "values",
        "PullOptions": "values",
        "PullResult": "values",
        "PushOptions": "values",
        "UnpackChoice": "values",
        "LayerReport": ".unpack",
    },
)
