"""A snapshotter of btrfs subvolumes, usable with and without plugin machinery."""

from snapcore_btrfs.btrfs import BtrfsSnapshotter as BtrfsSnapshotter
