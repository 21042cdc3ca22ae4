"""Manifests, indexes and configs as read-only views of bytes.

A blob is its bytes and its digest; what this module returns is a view that is never written
back (OCI image-spec manifest.md, image-index.md, config.md). Everything a hostile author can
do with JSON is refused here, before a value goes inward.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from snapcore.errors import InvalidArgument, RefusedInput
from snapcore.oci.descriptor import (
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    is_index,
    is_manifest,
    is_schema1,
)
from snapcore.oci.digest import Digest
from snapcore.oci.platform import Platform

MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024
MAX_CHILDREN: Final = 1000
_T = TypeVar("_T")
_MEMBERS: Final = frozenset(
    [
        "schemaversion",
        "mediatype",
        "artifacttype",
        "config",
        "layers",
        "manifests",
        "subject",
        "digest",
        "size",
        "urls",
        "annotations",
        "platform",
        "rootfs",
        "diff_ids",
        "type",
        "os",
        "architecture",
        "variant",
        "repotags",
    ]
)


class _Platform(msgspec.Struct, frozen=True):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class _Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None
    platform: _Platform | None = None
    urls: list[str] | None = None
    artifact_type: str = ""


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    subject: _Descriptor | None = None
    annotations: dict[str, str] | None = None
    fs_layers: msgspec.Raw | None = msgspec.field(default=None, name="fsLayers")


class _RootFS(msgspec.Struct, frozen=True):
    type: str = ""
    diff_ids: list[str] | None = None


class _Config(msgspec.Struct, frozen=True):
    os: str = ""
    architecture: str = ""
    variant: str = ""
    created: str | None = None
    rootfs: _RootFS | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: a config and its layers, the base layer first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    artifact_type: str = ""
    subject: Descriptor | None = None

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """The config, then the layers."""
        return (self.config, *self.layers)


@dataclass(frozen=True, slots=True)
class Index:
    """Several manifests of one image, most often one a platform."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str]

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """The manifests."""
        return self.manifests


@dataclass(frozen=True, slots=True)
class Config:
    """The part of an image's config that unpacking needs.

    Attributes:
        platform: what the image runs on; None where the config does not say.
        rootfs_type: "layers", or "" where absent.
        diff_ids: digests of the uncompressed layers, the base layer first.
    """

    platform: Platform | None
    rootfs_type: str
    diff_ids: tuple[Digest, ...]


def parse_document(data: bytes, media_type: str) -> Manifest | Index:
    """Parse a manifest or an index.

    Args:
        data: the blob, as served.
        media_type: what the descriptor or the registry's header calls it.

    Raises:
        RefusedInput: too large, malformed, schema 1, duplicate keys, or a type that the body
            contradicts (CVE-2021-41190).
    """
    if is_schema1(media_type):
        raise RefusedInput(
            f"Docker schema 1 manifests are not supported: {media_type!r};"
            " push the image again with a current client"
        )
    if not (is_index(media_type) or is_manifest(media_type)):
        raise RefusedInput(f"not a manifest or index: media type {media_type!r}")
    document = decode_strictly(data, _Document, f"document of type {media_type!r}")
    _check_type(document, media_type)
    if is_index(media_type):
        return Index(
            media_type,
            _descriptors(document.manifests or []),
            document.annotations or {},
        )
    if document.config is None:
        raise RefusedInput(f"manifest of type {media_type!r} has no config")
    return Manifest(
        media_type,
        _descriptor(document.config),
        _descriptors(document.layers or []),
        document.annotations or {},
        document.artifact_type,
        _descriptor(document.subject) if document.subject else None,
    )


def sniff_media_type(data: bytes) -> str:
    """Return the media type that a document of unknown type claims or shows by its members.

    For registries that answer without a usable Content-Type, and for layout directories.

    Raises:
        RefusedInput: the document is malformed or of no known type.
    """
    document = decode_strictly(data, _Document, "document")
    if document.media_type:
        return document.media_type
    return OCI_INDEX if document.manifests is not None else OCI_MANIFEST


def parse_config(data: bytes) -> Config:
    """Parse an image config.

    Raises:
        RefusedInput: too large or malformed.
    """
    config = decode_strictly(data, _Config, "image config")
    platform = (
        Platform.of(config.os, config.architecture, config.variant)
        if config.os and config.architecture
        else None
    )
    rootfs = config.rootfs or _RootFS()
    return Config(platform, rootfs.type, tuple(_digest(d) for d in rootfs.diff_ids or ()))


def decode_strictly(data: bytes, kind: type[_T], what: str) -> _T:
    """Decode JSON that somebody else wrote.

    Args:
        data: at most `MAX_DOCUMENT_BYTES`.
        kind: the type it must have; unknown members are left out.
        what: names it in messages.

    Raises:
        RefusedInput: too large, malformed, or a member twice in one object; of members with
            a meaning also if only their case differs.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise RefusedInput(f"{what} is {len(data)} bytes; at most {MAX_DOCUMENT_BYTES} are read")
    try:
        value = msgspec.json.decode(data, type=kind)
        json.loads(data, object_pairs_hook=_no_duplicates)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RefusedInput(f"malformed {what}: {error}") from error
    return value


def _check_type(document: _Document, media_type: str) -> None:
    if document.schema_version != 2 or document.fs_layers is not None:
        raise RefusedInput(f"{media_type!r}: schema version {document.schema_version} is not 2")
    if document.media_type and document.media_type != media_type:
        raise RefusedInput(
            f"media type {media_type!r} contradicts the document's own {document.media_type!r}"
        )
    if not document.media_type and media_type == DOCKER_MANIFEST:
        raise RefusedInput(f"{media_type!r}: the document does not name its media type")
    single = document.config is not None or document.layers is not None
    several = document.manifests is not None
    if (single and several) or (several != is_index(media_type)):
        raise RefusedInput(
            f"ambiguous document: it has the members of a manifest and of an index,"
            f" or not those of its type {media_type!r}"
        )


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    seen: dict[str, object] = {}
    folded: set[str] = set()
    for key, value in pairs:
        # Go matches member names without regard to case, so "Layers" beside "layers" is a
        # duplicate too; in free maps (labels, environment) case may differ.
        name = key.casefold() if key.casefold() in _MEMBERS else key
        if name in folded:
            raise RefusedInput(f"duplicate JSON key {key[:100]!r}")
        folded.add(name)
        seen[key] = value
    return seen


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidArgument as error:
        raise RefusedInput(str(error)) from error


def _descriptors(items: list[_Descriptor]) -> tuple[Descriptor, ...]:
    if len(items) > MAX_CHILDREN:
        raise RefusedInput(f"document has {len(items)} children; at most {MAX_CHILDREN} are read")
    return tuple(_descriptor(item) for item in items)


def _descriptor(item: _Descriptor) -> Descriptor:
    platform = None
    if item.platform and item.platform.os and item.platform.architecture:
        platform = Platform.of(item.platform.os, item.platform.architecture, item.platform.variant)
    return Descriptor(
        item.media_type,
        _digest(item.digest),
        item.size,
        item.annotations or {},
        platform,
        tuple(item.urls or ()),
        item.artifact_type,
    )
