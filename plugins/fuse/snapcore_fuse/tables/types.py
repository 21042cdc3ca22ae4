"""What a table says of an inode."""

from __future__ import annotations

from typing import NamedTuple

from snapcore.oci import Digest


class StreamPlace(NamedTuple):
    """Where a file's bytes begin, in the view of several layers.

    Attributes:
        layer: digest of the layer's blob.
        start: offset in the layer's stream.
    """

    layer: Digest
    start: int


class DataPlace(NamedTuple):
    """Where a file's bytes are, as a table says it.

    Attributes:
        source: number among the table's sources.
        start: offset in the stream of that layer.
        size: in bytes.
    """

    source: int
    start: int
    size: int


class Status(NamedTuple):
    """What stat(2) says of an inode.

    Attributes:
        mode: type and permission bits.
        uid: owner.
        gid: group.
        links: number of names; 1 for a directory, which makes no promise.
        mtime: nanoseconds since the epoch.
        size: in bytes; 0 unless a file or a symlink.
        device: number of a device, else 0.
    """

    mode: int
    uid: int
    gid: int
    links: int
    mtime: int
    size: int
    device: int
