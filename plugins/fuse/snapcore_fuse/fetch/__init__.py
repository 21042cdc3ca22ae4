"""Bytes of a layer on demand: cached, fetched by range, coalesced, prioritised, in bounded time."""

from snapcore_fuse.fetch.complete import BlobSink as BlobSink
from snapcore_fuse.fetch.complete import complete as complete
from snapcore_fuse.fetch.layer import LayerData as LayerData
from snapcore_fuse.fetch.slots import Slots as Slots
from snapcore_fuse.fetch.sources import FileSink as FileSink
from snapcore_fuse.fetch.sources import FileSource as FileSource
from snapcore_fuse.fetch.sources import RegistrySource as RegistrySource
from snapcore_fuse.fetch.types import BlobSource as BlobSource
from snapcore_fuse.fetch.types import FetchOptions as FetchOptions
from snapcore_fuse.fetch.types import LayerStatus as LayerStatus
from snapcore_fuse.fetch.types import Priority as Priority
