"""Serving packed tables as a filesystem; what speaks to the kernel is in `serve.pyfuse` alone."""

from snapcore_fuse.serve.errors import errno_of as errno_of
from snapcore_fuse.serve.handlers import Handlers as Handlers
from snapcore_fuse.serve.mounts import MountSettings as MountSettings
from snapcore_fuse.serve.mounts import sweep as sweep
from snapcore_fuse.serve.types import ROOT as ROOT
from snapcore_fuse.serve.types import Found as Found
from snapcore_fuse.serve.types import FuseTransport as FuseTransport
from snapcore_fuse.serve.types import Reader as Reader
from snapcore_fuse.serve.types import Served as Served
from snapcore_fuse.serve.types import Space as Space
from snapcore_fuse.serve.types import inode_number as inode_number
