"""Mounts: the value, carrying it out, and the mount table."""

from snapcore.mount.idmap import IdMap as IdMap
from snapcore.mount.idmap import IdMapping as IdMapping
from snapcore.mount.overlay import MAX_LOWERS as MAX_LOWERS
from snapcore.mount.overlay import join_lowers as join_lowers
from snapcore.mount.overlay import make_overlay as make_overlay
from snapcore.mount.overlay import takes_lowers_one_by_one as takes_lowers_one_by_one
from snapcore.mount.perform import mount_all as mount_all
from snapcore.mount.perform import split_options as split_options
from snapcore.mount.perform import temporary_mount as temporary_mount
from snapcore.mount.perform import unmount as unmount
from snapcore.mount.table import MountEntry as MountEntry
from snapcore.mount.table import is_mount_point as is_mount_point
from snapcore.mount.table import mount_table as mount_table
from snapcore.mount.table import mounts_below as mounts_below
from snapcore.mount.table import mounts_showing as mounts_showing
from snapcore.mount.table import mounts_using as mounts_using
from snapcore.mount.value import Mount as Mount
