"""A builder of OCI image layout directories (image-spec, image-layout.md), for tests.

It writes whatever it is told, right or wrong: a caller may pass any media type, size or
diff ID, so hostile and broken images come from here too.

    builder = LayoutBuilder(tmp_path / "layout")
    base = builder.add_layer(tar_of(File("etc/motd", b"hello")))
    builder.add_image("latest", [base])
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final, Literal, Protocol

import zstandard
from isal import isal_zlib

from snapcore.oci import Descriptor, Digest, Platform
from snapcore.oci.descriptor import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
)

Compression = Literal["none", "gzip", "zstd"]
REF_NAME: Final = "org.opencontainers.image.ref.name"
_CHUNK: Final = 1 << 20
_LAYER_SUFFIX: Final[Mapping[tuple[bool, str], str]] = {
    (False, "none"): "",
    (False, "gzip"): "+gzip",
    (False, "zstd"): "+zstd",
    (True, "none"): "",
    (True, "gzip"): ".gzip",
    (True, "zstd"): ".zstd",
}


@dataclass(frozen=True, slots=True)
class File:
    """One entry for `tar_of`; a directory if `name` ends with `/`.

    Attributes:
        name: path in the layer.
        data: content of a regular file.
        mode: permission bits; 0o644 for files and 0o755 for directories if None.
        link: makes a symbolic link to this.
        hardlink: makes a hard link to this path of the layer.
        uid: owner.
        gid: group.
        mtime: seconds since the epoch; a fraction makes a PAX record.
        xattrs: extended attributes, as `SCHILY.xattr.` records.
    """

    name: str
    data: bytes = b""
    mode: int | None = None
    link: str | None = None
    hardlink: str | None = None
    uid: int = 0
    gid: int = 0
    mtime: float = 1_700_000_000
    xattrs: Mapping[str, str] = field(default_factory=dict)


def tar_of(*files: File) -> bytes:
    """Return a PAX tar of these entries, in this order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in files:
            archive.addfile(tar_member(entry), io.BytesIO(entry.data))
    return buffer.getvalue()


def whiteout(path: str) -> File:
    """Return the entry that deletes `path` of the layers below."""
    directory, _, name = path.rpartition("/")
    return File(f"{directory}/.wh.{name}" if directory else f".wh.{name}")


def opaque(directory: str) -> File:
    """Return the entry that deletes everything the layers below have in `directory`."""
    return File(f"{directory}/.wh..wh..opq" if directory else ".wh..wh..opq")


def tar_member(entry: File) -> tarfile.TarInfo:
    """Return the header of an entry."""
    member = tarfile.TarInfo(entry.name.rstrip("/"))
    member.uid, member.gid, member.mtime = entry.uid, entry.gid, entry.mtime
    member.mode = 0o644 if entry.mode is None else entry.mode
    if entry.name.endswith("/"):
        member.type = tarfile.DIRTYPE
        member.mode = 0o755 if entry.mode is None else entry.mode
    elif entry.link is not None:
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.link, 0o777
    elif entry.hardlink is not None:
        member.type, member.linkname = tarfile.LNKTYPE, entry.hardlink
    else:
        member.size = len(entry.data)
    member.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in entry.xattrs.items()}
    return member


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer blob that lies in a layout."""

    descriptor: Descriptor
    diff_id: Digest


class _Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...


class LayoutBuilder:
    """Writes blobs and documents of one layout; `index.json` is right after every call."""

    def __init__(self, directory: str | os.PathLike[str], *, docker: bool = False) -> None:
        """Begin a layout.

        Args:
            directory: made if it is not there.
            docker: use Docker schema 2 media types instead of OCI ones.
        """
        self.directory: Final = Path(directory)
        self.docker: Final = docker
        self._tagged: list[Descriptor] = []
        (self.directory / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        (self.directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self._write_index()

    def blob_path(self, digest: Digest) -> Path:
        """Return where a blob lies."""
        return self.directory / "blobs" / digest.algorithm / digest.hex

    def add_blob(
        self, data: bytes, media_type: str, annotations: Mapping[str, str] | None = None
    ) -> Descriptor:
        """Store any bytes."""
        digest = Digest.of(data)
        self.blob_path(digest).write_bytes(data)
        return Descriptor(media_type, digest, len(data), annotations or {})

    def add_layer(
        self,
        tar: bytes,
        compression: Compression = "gzip",
        *,
        media_type: str | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Layer:
        """Store a layer; `media_type` overrides the one that fits."""
        return self.add_layer_stream(
            io.BytesIO(tar), compression, media_type=media_type, annotations=annotations
        )

    def add_layer_stream(
        self,
        tar: BinaryIO,
        compression: Compression = "gzip",
        *,
        media_type: str | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Layer:
        """Store a layer read from a file, in constant memory."""
        partial = self.directory / "blobs/sha256/.partial"
        plain, packed = hashlib.sha256(), hashlib.sha256()
        with partial.open("wb") as out:
            sink = _Tee(out, packed)
            pack = _packer(compression)
            while chunk := tar.read(_CHUNK):
                plain.update(chunk)
                sink.write(pack.compress(chunk))
            sink.write(pack.flush())
            size = out.tell()
        digest = Digest("sha256", packed.hexdigest())
        partial.rename(self.blob_path(digest))
        base = DOCKER_LAYER if self.docker else OCI_LAYER
        kind = media_type or base + _LAYER_SUFFIX[self.docker, compression]
        return Layer(
            Descriptor(kind, digest, size, annotations or {}),
            Digest("sha256", plain.hexdigest()),
        )

    def add_config(
        self,
        diff_ids: Iterable[Digest],
        *,
        platform: Platform | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> Descriptor:
        """Store an image config; `overrides` replaces its top-level members."""
        where = platform or Platform.local()
        document: dict[str, object] = {
            "created": "2024-01-01T00:00:00Z",
            "os": where.os,
            "architecture": where.architecture,
            "config": {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [str(d) for d in diff_ids]},
        }
        if where.variant:
            document["variant"] = where.variant
        document |= overrides or {}
        return self.add_blob(_json(document), DOCKER_CONFIG if self.docker else OCI_CONFIG)

    def add_manifest(
        self,
        config: Descriptor,
        layers: Sequence[Descriptor],
        *,
        overrides: Mapping[str, object] | None = None,
    ) -> Descriptor:
        """Store a manifest without tagging it; `overrides` replaces its top-level members."""
        media_type = DOCKER_MANIFEST if self.docker else OCI_MANIFEST
        document: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": _raw(config),
            "layers": [_raw(layer) for layer in layers],
        }
        document |= overrides or {}
        return self.add_blob(_json(document), media_type)

    def add_image(
        self,
        tag: str | None,
        layers: Sequence[Layer],
        *,
        platform: Platform | None = None,
        config: Mapping[str, object] | None = None,
        manifest: Mapping[str, object] | None = None,
    ) -> Descriptor:
        """Store config and manifest of an image of these layers, the base layer first.

        Args:
            tag: name in `index.json`; None leaves the image untagged, for `add_index`.
            layers: what `add_layer` returned.
            platform: this host's if None; also put on the returned descriptor.
            config: replaces top-level members of the config.
            manifest: replaces top-level members of the manifest.
        """
        where = platform or Platform.local()
        described = self.add_config(
            [layer.diff_id for layer in layers], platform=where, overrides=config
        )
        stored = self.add_manifest(
            described, [layer.descriptor for layer in layers], overrides=manifest
        )
        image = replace(stored, platform=where)
        if tag is not None:
            self.tag(tag, image)
        return image

    def add_index(self, tag: str | None, manifests: Sequence[Descriptor]) -> Descriptor:
        """Store an index (or Docker manifest list) of what `add_image` returned."""
        media_type = DOCKER_INDEX if self.docker else OCI_INDEX
        document = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "manifests": [_raw(m) for m in manifests],
        }
        index = self.add_blob(_json(document), media_type)
        if tag is not None:
            self.tag(tag, index)
        return index

    def tag(self, tag: str, target: Descriptor) -> None:
        """Name a manifest or an index in `index.json`; a second name is a second entry."""
        named = {**target.annotations, REF_NAME: tag}
        self._tagged.append(replace(target, annotations=named))
        self._write_index()

    def _write_index(self) -> None:
        document = {"schemaVersion": 2, "manifests": [_raw(d) for d in self._tagged]}
        (self.directory / "index.json").write_bytes(_json(document))


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class _Tee:
    def __init__(self, out: _Sink, digest: hashlib._Hash) -> None:
        self._out, self._digest = out, digest

    def write(self, data: bytes) -> None:
        self._digest.update(data)
        self._out.write(data)


def _packer(compression: Compression) -> _Packer:
    if compression == "gzip":
        packer: _Packer = isal_zlib.compressobj(1, wbits=31)
        return packer
    if compression == "zstd":
        return zstandard.ZstdCompressor(level=1).compressobj()
    return _Plain()


def compressed(data: bytes, compression: Compression) -> bytes:
    """Return `data` packed, for tests that need the bytes and no layout."""
    packer = _packer(compression)
    return packer.compress(data) + packer.flush()


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _raw(descriptor: Descriptor) -> dict[str, object]:
    raw: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if descriptor.annotations:
        raw["annotations"] = dict(descriptor.annotations)
    if descriptor.platform:
        where = descriptor.platform
        raw["platform"] = {"os": where.os, "architecture": where.architecture} | (
            {"variant": where.variant} if where.variant else {}
        )
    return raw
