"""The copying snapshotter, usable with and without plugin machinery."""

from snapcore_native.copy import CopyReport as CopyReport
from snapcore_native.copy import copy_tree as copy_tree
from snapcore_native.native import NativeSnapshotter as NativeSnapshotter
from snapcore_native.probe import probe as probe
