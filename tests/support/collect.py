"""A root with content, images and a real snapshotter, without a node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from snapcore import labels
from snapcore.content import ContentStore
from snapcore.gc import Collector
from snapcore.gc.scan import Sources
from snapcore.gc.values import Backends
from snapcore.locks import Owner, owner_alive
from snapcore.metadata import Metadata, open_metadata
from snapcore.oci import Descriptor, Digest
from snapcore.snapshots import Snapshotter, no_checkpoint, open_snapshotter
from snapcore.unpack import is_in_progress

NAME: Final = "native"


@dataclass
class Root:
    """A root and everything in it."""

    path: Path
    owner: Owner
    metadata: Metadata
    content: ContentStore
    snapshotter: Snapshotter

    def sources(self, **closed: str) -> Sources:
        return Sources(
            self.metadata,
            self.content,
            Backends((self.snapshotter,), closed),
            partial(is_in_progress, str(self.path)),
            partial(owner_alive, str(self.path)),
            no_checkpoint,
        )

    def collector(self, **closed: str) -> Collector:
        return Collector(self.sources(**closed), str(self.path / "lock"), self.owner.id)

    def blob(self, data: bytes, **given: str) -> Digest:
        digest = Digest.of(data)
        if self.content.exists(digest):
            return digest
        with self.content.ingest(f"test-{digest}", total=len(data), expected=digest) as ingest:
            ingest.write(data)
            ingest.commit(labels={labels_of(key): value for key, value in given.items()})
        return digest

    def image(self, name: str, target: Digest) -> None:
        self.metadata.images.put(name, Descriptor("application/x", target, 1))

    def committed(self, name: str, parent: str = "", size: int = 0) -> str:
        key = f"making {name}"
        mounts = self.snapshotter.prepare(key, parent)
        if size:
            with open(os.path.join(mounts[0].source, name), "wb") as file:
                file.write(b"x" * size)
        self.snapshotter.commit(name, key)
        return name

    def names(self) -> set[str]:
        return {info.name for info in self.snapshotter.walk()}

    def blobs(self) -> set[Digest]:
        return {info.digest for info in self.content.walk()}


def labels_of(key: str) -> str:
    """Return the label that a keyword stands for: `config`, `l0`, `snapshot` or `root`."""
    if key == "snapshot":
        return labels.gc_ref_snapshot(NAME)
    return labels.GC_ROOT if key == "root" else f"{labels.GC_REF_CONTENT}.{key}"


@contextmanager
def open_root(path: Path) -> Iterator[Root]:
    """Open a root in an empty directory."""
    (path / "lock").mkdir()
    owner = Owner(str(path))
    metadata = open_metadata(str(path))
    content = ContentStore(
        str(path / "content"), metadata.labels, locks=str(path / "lock"), owner=owner
    )
    snapshotter = open_snapshotter(NAME, str(path / NAME))
    try:
        yield Root(path, owner, metadata, content, snapshotter)
    finally:
        snapshotter.close()
        metadata.close()
        owner.close()
