"""Images with lazy layers, the registry that serves them, and nodes that pull from it."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import os
import random
import signal
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from snapcore import labels as keys
from snapcore.config import NodeConfig
from snapcore.node import Node
from snapcore.oci import Digest, chain_ids
from snapcore.oci.descriptor import OCI_LAYER
from snapcore.snapshots import OptionValue
from snapcore_fuse.daemon.client import Daemon
from snapcore_fuse.daemon.places import Places
from snapcore_fuse.formats.estargz import TOC_DIGEST
from snapcore_fuse.settings import Settings
from support.faults import FakeRegistry
from support.layout import File, Layer, LayoutBuilder, tar_member
from support.nodes import Watched, serve
from support.stargz import Estargz, sealed

REPOSITORY: Final = "repo:latest"
BIG: Final = random.Random(20).randbytes(400_000)
"""What does not compress: a layer with it is worth being lazy."""
_TYPES: Final = {
    tarfile.REGTYPE: "reg",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
}


def estargz_layer(builder: LayoutBuilder, *files: File) -> Layer:
    """Add an eStargz layer to a layout: what the Go library writes, and links that it refuses."""
    made = estargz_of(*files)
    blob = builder.add_blob(made.blob, f"{OCI_LAYER}+gzip", {TOC_DIGEST: str(made.toc_digest)})
    return Layer(blob, made.diff_id)


def estargz_of(*files: File) -> Estargz:
    """Return a tar of these files as an eStargz blob, a member for the bytes of each."""
    members, headers = bytearray(), bytearray()
    entries: list[dict[str, object]] = []

    def close(plain: bytes) -> int:
        offset = len(members)
        members.extend(gzip.compress(plain, 6, mtime=0))
        return offset

    for file in files:
        member = tar_member(file)
        headers += member.tobuf(tarfile.PAX_FORMAT)
        entry = _toc_entry(file, member)
        if member.size:
            close(bytes(headers))
            entry["offset"] = close(file.data)
            digest = str(Digest.of(file.data))
            entry |= {"size": member.size, "digest": digest, "chunkDigest": digest}
            headers = bytearray(-member.size % tarfile.BLOCKSIZE)
        entries.append(entry)
    close(bytes(headers))
    return sealed(bytes(members), entries)


def _toc_entry(file: File, member: tarfile.TarInfo) -> dict[str, object]:
    when = dt.datetime.fromtimestamp(int(file.mtime), tz=dt.UTC)
    return {
        "name": file.name,
        "type": _TYPES[member.type],
        "modtime": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "mode": member.mode,
        "uid": member.uid,
        "gid": member.gid,
        "linkName": member.linkname,
        "xattrs": {
            key: base64.b64encode(value.encode()).decode() for key, value in file.xattrs.items()
        },
    }


@dataclass
class LazyPlace:
    """A registry, and one node of the lazy backend that pulls from it.

    Attributes:
        directory: for everything.
        registry: serves what `builder` has, once `publish` is called.
        builder: makes images.
        options: of the backend.
    """

    directory: Path
    registry: FakeRegistry
    builder: LayoutBuilder
    options: dict[str, OptionValue] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The node's root."""
        return self.directory / "root"

    @property
    def places(self) -> Places:
        """The backend's own places."""
        return Places(str(self.root / "snapshotters/fuse"))

    @property
    def name(self) -> str:
        """The image."""
        return f"{self.registry.host}/{REPOSITORY}"

    def publish(self, *layers: Layer) -> None:
        """Put an image of these layers into the registry."""
        self.builder.add_image("latest", layers)
        serve(self.registry, self.builder)

    @contextmanager
    def node(self, *snapshotters: str) -> Iterator[Node]:
        """Open the node, in this process."""
        with Node.open(self.config(str(self.root), *snapshotters)) as node:
            yield node

    def config(self, root: str, *snapshotters: str) -> NodeConfig:
        """Return the configuration of a node with the backend's options."""
        return NodeConfig(
            root=root,
            state=f"{root}-state",
            snapshotters=snapshotters or ("fuse",),
            plugins={"fuse": self.options},
        )

    def fetched(self, layer: Layer) -> int:
        """Return how many bytes of a layer's blob the registry was asked for."""
        total = 0
        for request in self.registry.requests(f"/blobs/{layer.descriptor.digest}"):
            first, _, last = request.headers.get("range", "").removeprefix("bytes=").partition("-")
            total += int(last) - int(first) + 1 if last else layer.descriptor.size
        return total

    @property
    def daemon(self) -> Daemon:
        """The daemon's client."""
        return Daemon(self.places, Settings(**self.options))  # type: ignore[arg-type]

    def kill_daemon(self) -> None:
        """Kill the daemon, and wait until it is gone."""
        watched = Watched(self.daemon.ensure().pid)
        try:
            os.kill(watched.pid, signal.SIGKILL)
            assert watched.wait()
        finally:
            watched.close()


class Image:
    """An image in the registry of a place, and the labels that its puller gives to each layer.

    Attributes:
        layers: the lowest first.
        names: their chain IDs.
        manifest: the image's digest.
    """

    def __init__(self, place: LazyPlace, *layers: Layer) -> None:
        self.layers = layers
        self.names = [str(each) for each in chain_ids([layer.diff_id for layer in layers])]
        self.manifest = place.builder.add_image("latest", layers).digest
        place.publish(*layers)
        self._place = place

    def labels(self, number: int) -> dict[str, str]:
        """Return the labels of a layer."""
        layer = self.layers[number]
        told = {
            keys.SNAPSHOT_REF: self.names[number],
            keys.SNAPSHOT_DIFF_ID: str(layer.diff_id),
            keys.CRI_IMAGE_REF: self._place.name,
            keys.CRI_MANIFEST_DIGEST: str(self.manifest),
            keys.CRI_LAYER_DIGEST: str(layer.descriptor.digest),
            keys.CRI_IMAGE_LAYERS: keys.image_layers(
                each.descriptor.digest for each in self.layers[number:]
            ),
            keys.SOURCE_PLAIN_HTTP: "true",
        }
        if number:
            told[keys.SNAPSHOT_PARENT_CHAIN_ID] = self.names[number - 1]
        return told


@contextmanager
def lazy_place(
    directory: Path,
    options: Mapping[str, OptionValue] | None = None,
    registry: FakeRegistry | None = None,
) -> Iterator[LazyPlace]:
    """Make a place; end its daemon at last, and see that nothing is left.

    Args:
        directory: an empty one.
        options: of the backend; layers of any size are lazy unless it says otherwise.
        registry: another one than the plainest.
    """
    builder = LayoutBuilder(directory / "layout")
    with registry or FakeRegistry() as registry:
        place = LazyPlace(directory, registry, builder, {"min_layer_size": 1, **(options or {})})
        try:
            yield place
        finally:
            place.daemon.stop()


def files_below(root: str) -> Sequence[str]:
    """Return the paths of all files and directories, sorted."""
    found = []
    for top, directories, names in os.walk(root):
        found += [os.path.relpath(os.path.join(top, name), root) for name in directories + names]
    return sorted(found)
