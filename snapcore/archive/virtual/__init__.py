"""Layers applied to trees that are only described: what unpacking would give, without a file."""

from snapcore.archive.virtual.apply import Described as Described
from snapcore.archive.virtual.apply import describe as describe
from snapcore.archive.virtual.disk import DiskLayer as DiskLayer
from snapcore.archive.virtual.types import WHITEOUT as WHITEOUT
from snapcore.archive.virtual.types import Attributes as Attributes
from snapcore.archive.virtual.types import Directory as Directory
from snapcore.archive.virtual.types import LayerDirectory as LayerDirectory
from snapcore.archive.virtual.types import LayerNode as LayerNode
from snapcore.archive.virtual.types import Leaf as Leaf
from snapcore.archive.virtual.types import NotLazy as NotLazy
from snapcore.archive.virtual.types import Whiteout as Whiteout
from snapcore.archive.virtual.view import MergedDirectory as MergedDirectory
from snapcore.archive.virtual.view import MergedView as MergedView
