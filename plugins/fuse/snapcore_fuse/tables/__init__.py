"""The inodes of one lazy layer, packed: built from its entries, kept in a file, looked up in."""

from snapcore_fuse.tables.build import build as build
from snapcore_fuse.tables.files import load as load
from snapcore_fuse.tables.files import save as save
from snapcore_fuse.tables.layer import TableLayer as TableLayer
from snapcore_fuse.tables.layer import view as view
from snapcore_fuse.tables.table import Table as Table
from snapcore_fuse.tables.types import DataPlace as DataPlace
from snapcore_fuse.tables.types import Status as Status
from snapcore_fuse.tables.types import StreamPlace as StreamPlace
