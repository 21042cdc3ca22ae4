"""Layers as archives: strict reading, verified streams, and the canonical digest of a tree."""

from snapcore.archive.apply import EntrySource as EntrySource
from snapcore.archive.apply import apply_entries as apply_entries
from snapcore.archive.blocks import BlockReader as BlockReader
from snapcore.archive.compression import ByteStream as ByteStream
from snapcore.archive.compression import Compression as Compression
from snapcore.archive.compression import open_stream as open_stream
from snapcore.archive.digest import TreeDigest as TreeDigest
from snapcore.archive.digest import tree_digest as tree_digest
from snapcore.archive.digest import tree_listing as tree_listing
from snapcore.archive.job import unpack_layer as unpack_layer
from snapcore.archive.pipeline import LayerDigests as LayerDigests
from snapcore.archive.pipeline import LayerStream as LayerStream
from snapcore.archive.tar import TarReader as TarReader
from snapcore.archive.types import ApplyPolicy as ApplyPolicy
from snapcore.archive.types import Destination as Destination
from snapcore.archive.types import Entry as Entry
from snapcore.archive.types import EntryType as EntryType
from snapcore.archive.types import Expected as Expected
from snapcore.archive.types import LayerResult as LayerResult
from snapcore.archive.types import Limits as Limits
from snapcore.archive.types import Steps as Steps
from snapcore.archive.types import WhiteoutsFirst as WhiteoutsFirst
from snapcore.archive.whiteout import Deletion as Deletion
from snapcore.archive.whiteout import collect as collect
