"""Layer formats that can be read piece by piece, behind one interface."""

from snapcore_fuse.formats.envelope import MEDIA_TYPE as MEDIA_TYPE
from snapcore_fuse.formats.estargz import TOC_DIGEST as TOC_DIGEST
from snapcore_fuse.formats.estargz import EstargzIndex as EstargzIndex
from snapcore_fuse.formats.estargz import open_estargz as open_estargz
from snapcore_fuse.formats.plan import LayerPlan as LayerPlan
from snapcore_fuse.formats.plan import LazySettings as LazySettings
from snapcore_fuse.formats.plan import load_index as load_index
from snapcore_fuse.formats.plan import plan_layer as plan_layer
from snapcore_fuse.formats.spans import SpanIndex as SpanIndex
from snapcore_fuse.formats.spans import build_index as build_index
from snapcore_fuse.formats.types import BlobRange as BlobRange
from snapcore_fuse.formats.types import IndexedEntry as IndexedEntry
from snapcore_fuse.formats.types import LayerFormat as LayerFormat
from snapcore_fuse.formats.types import LayerIndex as LayerIndex
from snapcore_fuse.formats.types import LayerReader as LayerReader
from snapcore_fuse.formats.types import LayerSource as LayerSource
from snapcore_fuse.formats.types import Piece as Piece
