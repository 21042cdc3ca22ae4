"""Verified pieces of layers on disk: persistent, capped, shared by all layers of a root."""

from snapcore_fuse.cache.store import ChunkCache as ChunkCache
from snapcore_fuse.cache.types import CacheStats as CacheStats
from snapcore_fuse.cache.types import ChunkKey as ChunkKey
