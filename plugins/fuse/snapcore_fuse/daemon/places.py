"""Where the daemon of a state root and its snapshots keep what they have."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from snapcore.oci import Digest

_LAZY: Final = "lazy"


@dataclass(frozen=True, slots=True)
class Places:
    """The paths below one state root.

    Beside a snapshot's directory, in `snapshots/<id>/lazy`: its source, index and table. Below
    `lazy`: the mount point, the control socket, the lock of the daemon, its log, the cache, and
    a marker that is there while the daemon has something to serve.

    Attributes:
        root: the snapshotter's state root.
    """

    root: str

    @property
    def directory(self) -> str:
        """What is the daemon's own, mode 0700."""
        return os.path.join(self.root, _LAZY)

    @property
    def mount(self) -> str:
        """Where the filesystem of all lazy layers is mounted."""
        return os.path.join(self.directory, "mnt")

    @property
    def socket(self) -> str:
        """Name of the control socket in `directory`."""
        return os.path.join(self.directory, "control")

    @property
    def lock(self) -> str:
        """Locked while a daemon lives, and by nobody else."""
        return os.path.join(self.directory, "daemon.lock")

    @property
    def log(self) -> str:
        """What the running daemon has to say; begun anew with each."""
        return os.path.join(self.directory, "daemon.log")

    @property
    def cache(self) -> str:
        """Pieces of layers."""
        return os.path.join(self.directory, "cache")

    @property
    def content(self) -> str:
        """Documents: manifests and published indexes, verified."""
        return os.path.join(self.directory, "content")

    def blob(self, digest: Digest) -> str:
        """Return where a layer's whole blob is, once it is here."""
        return os.path.join(self.directory, "blobs", digest.hex)

    @property
    def marker(self) -> str:
        """There while a lazy snapshot is: whoever opens the root then wants a daemon."""
        return os.path.join(self.directory, "serving")

    @property
    def snapshots(self) -> str:
        """The directories of all snapshots."""
        return os.path.join(self.root, "snapshots")

    def tree(self, snapshot: int) -> str:
        """Return where a lazy snapshot's own layer is shown."""
        return os.path.join(self.mount, str(snapshot))

    def snapshot(self, snapshot: int) -> str:
        """Return the directory of a recorded snapshot."""
        return os.path.join(self.snapshots, str(snapshot))


@dataclass(frozen=True, slots=True)
class Files:
    """What is kept of one lazy layer, beside its snapshot.

    Attributes:
        directory: of the snapshot.
    """

    directory: str

    @property
    def lazy(self) -> str:
        """Holds the rest; there exactly if the snapshot is lazy."""
        return os.path.join(self.directory, _LAZY)

    @property
    def source(self) -> str:
        """Where the layer comes from."""
        return os.path.join(self.lazy, "source.json")

    @property
    def index(self) -> str:
        """The layer's index."""
        return os.path.join(self.lazy, "index")

    @property
    def table(self) -> str:
        """The layer's inodes, made over the layers below."""
        return os.path.join(self.lazy, "table")
