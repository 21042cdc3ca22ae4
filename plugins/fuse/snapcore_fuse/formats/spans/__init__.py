"""Span indexes: layers as anybody made them, with places found in them to begin decoding at."""

from snapcore_fuse.formats.spans.build import build_index as build_index
from snapcore_fuse.formats.spans.index import SpanIndex as SpanIndex
