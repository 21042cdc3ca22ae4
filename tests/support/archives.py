"""Image archives for tests: layouts as tars, and what `docker save` writes, right or wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snapcore.oci import Digest, Platform
from support.tars import directory, file, tar


def layout_tar(layout: Path) -> bytes:
    """Return a layout directory as a tar, blobs before the documents that name them."""
    parts = [directory(b"blobs"), directory(b"blobs/sha256")]
    files = [path for path in sorted(layout.rglob("*")) if path.is_file()]
    parts += [file(str(path.relative_to(layout)).encode(), path.read_bytes()) for path in files]
    return tar(*parts)


def config_bytes(*layers: bytes) -> bytes:
    """Return a docker config for these uncompressed layers."""
    host = Platform.local()
    document = {
        "architecture": host.architecture,
        "os": host.os,
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer)) for layer in layers]},
    }
    return json.dumps(document).encode()


@dataclass(frozen=True, slots=True)
class DockerParts:
    """The files of a docker archive in its old form; `tar` joins them.

    Attributes:
        files: the files before manifest.json.
        config: the config's name.
        layers: the layers' names.
        tags: RepoTags.
    """

    files: tuple[bytes, ...]
    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...] | None = ("example/app:1",)

    def manifest_json(self) -> bytes:
        """Return the document."""
        item = {
            "Config": self.config,
            "RepoTags": None if self.tags is None else list(self.tags),
            "Layers": list(self.layers),
        }
        return json.dumps([item]).encode()

    def tar(self, *more: bytes) -> bytes:
        """Return the archive, with more entries at its end."""
        return tar(*self.files, file(b"manifest.json", self.manifest_json()), *more)


def docker_parts(*layers: bytes, packed: Sequence[bytes] = ()) -> DockerParts:
    """Return an archive of these layers: `<id>/layer.tar` each, beside old clients' files.

    Args:
        layers: uncompressed.
        packed: what stands in the archive for each layer; the layers themselves if empty.
    """
    config = config_bytes(*layers)
    files: list[bytes] = []
    names = []
    for number, data in enumerate(packed or layers):
        name = f"{number:064x}"
        files += [
            directory(name.encode()),
            file(f"{name}/VERSION".encode(), b"1.0"),
            file(f"{name}/json".encode(), b"{}"),
            file(f"{name}/layer.tar".encode(), data),
        ]
        names.append(f"{name}/layer.tar")
    config_name = f"{Digest.of(config).hex}.json"
    files.append(file(config_name.encode(), config))
    return DockerParts(tuple(files), config_name, tuple(names))
