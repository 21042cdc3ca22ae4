"""Lazy pulling by FUSE: a snapshotter whose layers are fetched piece by piece when read."""
