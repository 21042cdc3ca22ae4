"""Configs and manifests of images with one more layer."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from snapcore.errors import InvalidArgument, RefusedInput
from snapcore.oci import Descriptor, Digest, Manifest, Platform, parse_config, parse_document
from snapcore.oci.compose import AddedLayer, as_oci, compose_config, compose_manifest
from snapcore.oci.descriptor import OCI_CONFIG, OCI_LAYER

FIRST, NEW = Digest.of(b"first"), Digest.of(b"new")
ADDED = AddedLayer(NEW, "2024-01-01T00:00:00Z", "a test", "me", "why not")
ARM = Platform.parse("linux/arm/v6")


def config(base: dict[str, object] | None, added: AddedLayer = ADDED) -> dict[str, object]:
    data = None if base is None else json.dumps(base).encode()
    made = compose_config(data, ARM, added)
    assert made == compose_config(data, ARM, added)
    found: dict[str, object] = json.loads(made)
    return found


def base(**more: object) -> dict[str, object]:
    rootfs = {"type": "layers", "diff_ids": [str(FIRST)]}
    return {"os": "linux", "architecture": "amd64", "rootfs": rootfs, **more}


def test_a_first_layer() -> None:
    assert config(None) == {
        "architecture": "arm",
        "os": "linux",
        "variant": "v6",
        "created": "2024-01-01T00:00:00Z",
        "author": "me",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [str(NEW)]},
        "history": [
            {
                "created": "2024-01-01T00:00:00Z",
                "created_by": "a test",
                "author": "me",
                "comment": "why not",
            }
        ],
    }


def test_what_is_not_known_stays() -> None:
    runtime = {"Env": ["A=1"], "Healthcheck": {"Test": ["x"]}, "Volumes": None, "Cmd": ["old"]}
    made = config(
        base(config=runtime, moby={"x": [1.5, None]}, container="c", docker_version="20"),
        replace(ADDED, author="", changes=("ENV B=2", 'CMD ["new"]')),
    )
    assert made["config"] == {
        "Healthcheck": {"Test": ["x"]},
        "Env": ["A=1", "B=2"],
        "Cmd": ["new"],
    }
    assert made["moby"] == {"x": [1.5, None]}
    assert made["architecture"] == "amd64"
    assert {"container", "docker_version", "author"} & set(made) == set()
    assert parse_config(json.dumps(made).encode()).diff_ids == (FIRST, NEW)


@pytest.mark.parametrize(
    ("history", "before"),
    [
        (None, [{}]),
        ([], [{}]),
        ([{"created_by": "x"}], [{"created_by": "x"}]),
        ([{"empty_layer": True}], [{}, {"empty_layer": True}]),
        ([{}, {}], [{}, {}]),
    ],
)
def test_each_layer_has_its_history(history: object, before: list[object]) -> None:
    found = config(base(history=history))["history"]
    assert isinstance(found, list)
    assert found[:-1] == before
    assert found[-1]["created_by"] == "a test"


@pytest.mark.parametrize(
    "data",
    [b"[]", b'{"config": []}', b'{"rootfs": {"type": 1}}', b'{"os": "a", "os": "b"}', b"{"],
)
def test_a_malformed_config_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedInput):
        compose_config(data, ARM, ADDED)


def test_a_malformed_change_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="RUN"):
        config(base(), replace(ADDED, changes=("RUN x",)))


def test_a_manifest_names_all_layers_in_oci_types() -> None:
    docker = "application/vnd.docker.image.rootfs"
    below = [
        Descriptor(f"{docker}.diff.tar.gzip", FIRST, 5, {"a": "b"}),
        Descriptor(f"{docker}.foreign.diff.tar", FIRST, 6, urls=("https://example.com/x",)),
    ]
    layer = Descriptor(f"{OCI_LAYER}+zstd", NEW, 7)
    described, data = compose_manifest(Descriptor(OCI_CONFIG, FIRST, 8), below, layer)
    manifest = parse_document(data, described.media_type)
    assert isinstance(manifest, Manifest)
    assert (described.digest, described.size) == (Digest.of(data), len(data))
    assert manifest.config == Descriptor(OCI_CONFIG, FIRST, 8)
    assert manifest.layers == (
        Descriptor(f"{OCI_LAYER}+gzip", FIRST, 5, {"a": "b"}),
        Descriptor(
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            FIRST,
            6,
            urls=("https://example.com/x",),
        ),
        layer,
    )
    assert as_oci(layer) is layer
