"""Documents: what is read, and everything a hostile author can do with JSON that is refused."""

from __future__ import annotations

import json

import pytest

from snapcore.errors import RefusedInput
from snapcore.oci import Index, Manifest, Platform, parse_config, parse_document
from snapcore.oci.descriptor import (
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    is_layer,
)
from snapcore.oci.manifest import MAX_CHILDREN, MAX_DOCUMENT_BYTES, sniff_media_type

DIGEST = "sha256:" + "ab" * 32


def descriptor(media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": DIGEST, "size": 7, **more}


def manifest(**more: object) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG),
        "layers": [descriptor(OCI_LAYER + "+gzip", annotations={"a": "b"})],
    }
    return json.dumps({**document, **more}).encode()


def index(**more: object) -> bytes:
    child = descriptor(OCI_MANIFEST, platform={"os": "linux", "architecture": "arm64"})
    return json.dumps({"schemaVersion": 2, "manifests": [child], **more}).encode()


def test_manifest() -> None:
    parsed = parse_document(manifest(annotations=None), OCI_MANIFEST)
    assert isinstance(parsed, Manifest)
    assert parsed.config.media_type == OCI_CONFIG
    assert [str(layer.digest) for layer in parsed.layers] == [DIGEST]
    assert parsed.layers[0].annotations == {"a": "b"}
    assert len(parsed.children) == 2


def test_index() -> None:
    parsed = parse_document(index(), OCI_INDEX)
    assert isinstance(parsed, Index)
    assert parsed.manifests[0].platform == Platform("linux", "arm64")


def test_sniff() -> None:
    assert sniff_media_type(manifest()) == OCI_MANIFEST
    assert sniff_media_type(index()) == OCI_INDEX


@pytest.mark.parametrize(
    ("data", "media_type", "reason"),
    [
        (manifest(), DOCKER_SCHEMA1, "schema 1"),
        (manifest(), "application/json", "not a manifest"),
        (manifest(schemaVersion=1), OCI_MANIFEST, "schema version 1"),
        (manifest(fsLayers=[]), OCI_MANIFEST, "fsLayers"),
        (manifest(), OCI_INDEX, "contradicts"),
        (manifest(mediaType=""), OCI_INDEX, "ambiguous"),
        (manifest(manifests=[]), OCI_MANIFEST, "ambiguous"),
        (index(layers=[]), OCI_INDEX, "ambiguous"),
        (manifest(config=None), OCI_MANIFEST, "no config"),
        (manifest(mediaType=""), DOCKER_MANIFEST, "does not name"),
        (
            manifest(layers=[descriptor(OCI_LAYER, size="7")]),
            OCI_MANIFEST,
            r"\$\.layers\[0\]\.size",
        ),
        (manifest(layers=[descriptor(OCI_LAYER, size=-1)]), OCI_MANIFEST, "out of range"),
        (manifest(layers=[descriptor(OCI_LAYER, digest="sha256:x")]), OCI_MANIFEST, "digest"),
        (manifest(layers=[descriptor("not a type")]), OCI_MANIFEST, "media type"),
        (manifest(layers=[descriptor(OCI_LAYER)] * (MAX_CHILDREN + 1)), OCI_MANIFEST, "children"),
        (b'{"schemaVersion":2,"schemaVersion":2}', OCI_MANIFEST, "duplicate"),
        (manifest()[:-1] + b',"Layers":[]}', OCI_MANIFEST, "duplicate"),
        (b"\xef\xbb\xbf" + manifest(), OCI_MANIFEST, "malformed"),
        (b"[" * 100_000, OCI_MANIFEST, "malformed"),
        (b"{}", OCI_MANIFEST, "malformed"),
        (b"", OCI_MANIFEST, "malformed"),
        (b" " * (MAX_DOCUMENT_BYTES + 1), OCI_MANIFEST, "at most"),
    ],
)
def test_refused(data: bytes, media_type: str, reason: str) -> None:
    with pytest.raises(RefusedInput, match=reason):
        parse_document(data, media_type)


def test_case_may_differ_in_free_maps() -> None:
    data = manifest(annotations={"Foo": "1", "foo": "2"})
    assert parse_document(data, OCI_MANIFEST).annotations == {"Foo": "1", "foo": "2"}


def test_config() -> None:
    config = parse_config(
        json.dumps(
            {
                "os": "linux",
                "architecture": "x86_64",
                "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
            }
        ).encode()
    )
    assert config.platform == Platform("linux", "amd64")
    assert config.rootfs_type == "layers"
    assert [str(d) for d in config.diff_ids] == [DIGEST]
    assert parse_config(b"{}").diff_ids == ()


def test_config_refused() -> None:
    with pytest.raises(RefusedInput, match="digest"):
        parse_config(b'{"rootfs":{"type":"layers","diff_ids":["sha256:zz"]}}')


@pytest.mark.parametrize("suffix", ["", "+gzip", "+zstd", ".gzip"])
def test_layer_types(suffix: str) -> None:
    assert is_layer(OCI_LAYER + suffix)


@pytest.mark.parametrize("media_type", [OCI_CONFIG, OCI_LAYER + "+xz", OCI_LAYER + "x", "a/b"])
def test_not_layer_types(media_type: str) -> None:
    assert not is_layer(media_type)
