"""Layers as archives: strict reading, verified streams, and the canonical digest of a tree.

The worker processes and the command line import parts of this room and must not pay for
the rest of it: names are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapcore.lazily import on_first_use

if TYPE_CHECKING:
    from snapcore.archive.apart import apply_apart as apply_apart
    from snapcore.archive.apply import EntrySource as EntrySource
    from snapcore.archive.apply import apply_entries as apply_entries
    from snapcore.archive.blocks import BlockReader as BlockReader
    from snapcore.archive.compression import ByteStream as ByteStream
    from snapcore.archive.compression import Compression as Compression
    from snapcore.archive.compression import open_stream as open_stream
    from snapcore.archive.diff import DiffOptions as DiffOptions
    from snapcore.archive.diff import WrittenLayer as WrittenLayer
    from snapcore.archive.diff import diff_trees as diff_trees
    from snapcore.archive.diff import diff_upper as diff_upper
    from snapcore.archive.difference import Difference as Difference
    from snapcore.archive.difference import differences as differences
    from snapcore.archive.digest import TreeDigest as TreeDigest
    from snapcore.archive.digest import tree_digest as tree_digest
    from snapcore.archive.digest import tree_listing as tree_listing
    from snapcore.archive.feed import apply_stream as apply_stream
    from snapcore.archive.feed import feed_layer as feed_layer
    from snapcore.archive.inflate import DAMAGED as DAMAGED
    from snapcore.archive.inflate import Inflater as Inflater
    from snapcore.archive.inflate import fastest_inflater as fastest_inflater
    from snapcore.archive.job import unpack_apart as unpack_apart
    from snapcore.archive.job import unpack_layer as unpack_layer
    from snapcore.archive.pipeline import LayerDigests as LayerDigests
    from snapcore.archive.pipeline import LayerStream as LayerStream
    from snapcore.archive.postponed import Link as Link
    from snapcore.archive.postponed import Postponed as Postponed
    from snapcore.archive.rules import EntryRules as EntryRules
    from snapcore.archive.settling import settle as settle
    from snapcore.archive.tar import TarReader as TarReader
    from snapcore.archive.types import ApplyPolicy as ApplyPolicy
    from snapcore.archive.types import Destination as Destination
    from snapcore.archive.types import Entry as Entry
    from snapcore.archive.types import EntryType as EntryType
    from snapcore.archive.types import Expected as Expected
    from snapcore.archive.types import InOrder as InOrder
    from snapcore.archive.types import LayerResult as LayerResult
    from snapcore.archive.types import Limits as Limits
    from snapcore.archive.types import Steps as Steps
    from snapcore.archive.types import WhiteoutsFirst as WhiteoutsFirst
    from snapcore.archive.whiteout import Deletion as Deletion
    from snapcore.archive.whiteout import collect as collect
    from snapcore.archive.writer import TarWriter as TarWriter

__getattr__ = on_first_use(
    __name__,
    {
        "apply_apart": "apart",
        "EntrySource": "apply",
        "apply_entries": "apply",
        "BlockReader": "blocks",
        "ByteStream": "compression",
        "Compression": "compression",
        "open_stream": "compression",
        "DiffOptions": "diff",
        "WrittenLayer": "diff",
        "diff_trees": "diff",
        "diff_upper": "diff",
        "Difference": "difference",
        "differences": "difference",
        "TreeDigest": "digest",
        "tree_digest": "digest",
        "tree_listing": "digest",
        "apply_stream": "feed",
        "feed_layer": "feed",
        "DAMAGED": "inflate",
        "Inflater": "inflate",
        "fastest_inflater": "inflate",
        "unpack_apart": "job",
        "unpack_layer": "job",
        "LayerDigests": "pipeline",
        "LayerStream": "pipeline",
        "Link": "postponed",
        "Postponed": "postponed",
        "EntryRules": "rules",
        "settle": "settling",
        "TarReader": "tar",
        "ApplyPolicy": "types",
        "Destination": "types",
        "Entry": "types",
        "EntryType": "types",
        "Expected": "types",
        "InOrder": "types",
        "LayerResult": "types",
        "Limits": "types",
        "Steps": "types",
        "WhiteoutsFirst": "types",
        "Deletion": "whiteout",
        "collect": "whiteout",
        "TarWriter": "writer",
    },
)
