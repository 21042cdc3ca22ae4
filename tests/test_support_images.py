"""The test images are what they claim, by the word of other tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.images import (
    File,
    LayoutBuilder,
    debian_layout,
    require_tools,
    run_tool,
    skopeo_copy,
    tar_of,
    tiny_layout,
    umoci_layout,
)

from snapcore.oci import Digest, Index, Manifest, Platform, parse_config, parse_document
from snapcore.oci.descriptor import DOCKER_LAYER, DOCKER_MANIFEST, OCI_INDEX


def _manifest(layout: Path) -> Manifest:
    entry = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    data = (layout / "blobs/sha256" / Digest.parse(entry["digest"]).hex).read_bytes()
    document = parse_document(data, entry["mediaType"])
    assert isinstance(document, Manifest)
    return document


def test_skopeo_reads_a_tiny_image(tmp_path: Path) -> None:
    require_tools("skopeo")
    builder = tiny_layout(tmp_path / "layout")
    seen = json.loads(run_tool("skopeo", "inspect", f"oci:{builder.directory}:latest"))
    expected = [str(layer.digest) for layer in _manifest(builder.directory).layers]
    assert seen["Layers"] == expected


def test_docker_types_make_a_docker_manifest(tmp_path: Path) -> None:
    manifest = _manifest(tiny_layout(tmp_path / "layout", docker=True).directory)
    assert manifest.media_type == DOCKER_MANIFEST
    assert {layer.media_type for layer in manifest.layers} == {DOCKER_LAYER + ".gzip"}


def test_skopeo_converts_to_docker_types(tmp_path: Path) -> None:
    layers = [File("etc/motd", b"hello")]
    builder = LayoutBuilder(tmp_path / "layout")
    builder.add_image("latest", [builder.add_layer(tar_of(*layers))])
    skopeo_copy(f"oci:{builder.directory}:latest", f"dir:{tmp_path / 'out'}", "--format=v2s2")
    converted = json.loads((tmp_path / "out/manifest.json").read_bytes())
    assert converted["mediaType"] == DOCKER_MANIFEST


def test_an_index_names_the_platforms(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path / "layout")
    layer = builder.add_layer(tar_of(File("a")))
    platforms = [Platform.parse("linux/amd64"), Platform.parse("linux/arm/v7")]
    images = [builder.add_image(None, [layer], platform=p) for p in platforms]
    index = builder.add_index("multi", images)
    document = parse_document(builder.blob_path(index.digest).read_bytes(), OCI_INDEX)
    assert isinstance(document, Index)
    assert [m.platform for m in document.manifests] == platforms
    configs = [
        parse_document(builder.blob_path(m.digest).read_bytes(), m.media_type).children[0]
        for m in document.manifests
    ]
    seen = [parse_config(builder.blob_path(c.digest).read_bytes()).platform for c in configs]
    assert seen == platforms


@pytest.mark.needs_root
def test_umoci_unpacks_our_debian_image(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    require_tools("umoci")
    layout = debian_layout(tmp_path_factory)
    bundle = tmp_path / "bundle"
    run_tool("umoci", "unpack", "--image", f"{layout}:latest", str(bundle))
    root = bundle / "rootfs"
    assert (root / "usr/bin/hello").read_bytes().startswith(b"#!/bin/sh")
    assert (root / "usr/local/bin/same-bash").samefile(root / "usr/bin/bash")
    assert not (root / "usr/share/common-licenses").exists()
    assert [p.name for p in (root / "usr/share/locale").iterdir()] == ["only.txt"]
    assert len(_manifest(layout).layers) == 4


@pytest.mark.needs_root
def test_umoci_makes_an_image_of_two_layers(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert len(_manifest(umoci_layout(tmp_path_factory)).layers) == 2
