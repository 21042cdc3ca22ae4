"""Layer formats that can be read piece by piece, behind one interface."""

from snapcore_fuse.formats.types import BlobRange as BlobRange
from snapcore_fuse.formats.types import IndexedEntry as IndexedEntry
from snapcore_fuse.formats.types import LayerIndex as LayerIndex
from snapcore_fuse.formats.types import LayerReader as LayerReader
from snapcore_fuse.formats.types import LayerSource as LayerSource
from snapcore_fuse.formats.types import Piece as Piece
