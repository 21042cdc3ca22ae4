"""What is said of images that are not one plain manifest: several, none unpacked, no layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.cli import Outcome, call
from support.layout import File, LayoutBuilder, tar_of

from snapcore.oci import Platform, chain_id

Import = Callable[..., Outcome]
LAYER = tar_of(File("etc/a", b"one"))
ARTIFACT = "application/vnd.example.thing.v1+json"


@pytest.fixture
def builder(tmp_path: Path) -> LayoutBuilder:
    return LayoutBuilder(tmp_path / "layout")


@pytest.fixture
def load(tmp_path: Path, builder: LayoutBuilder) -> Import:
    """Import the layout and unpack it with the native backend."""

    def run(*flags: str) -> Outcome:
        where = ("--root", str(tmp_path / "root"), "--snapshotter", "native")
        return call(*where, "images", "import", str(builder.directory), *flags)

    return run


def lines(outcome: Outcome) -> dict[str, list[str]]:
    """Return the values of a table's lines by their names."""
    assert outcome.code == 0, outcome.err
    found: dict[str, list[str]] = {}
    for line in outcome.out.splitlines():
        name, _, value = line.partition("  ")
        found.setdefault(name, []).append(value.strip())
    return found


def test_one_manifest(load: Import, builder: LayoutBuilder) -> None:
    layer = builder.add_layer(LAYER)
    target = builder.add_image("latest", [layer])
    said = lines(load())
    assert said.pop("peak disk")
    assert said == {
        "name": ["localhost/layout:latest"],
        "digest": [str(target.digest)],
        "snapshotter": ["native"],
        "chain ID": [str(layer.diff_id)],
    }


def test_no_layers(load: Import, builder: LayoutBuilder, tmp_path: Path) -> None:
    builder.add_image("latest", [])
    assert lines(load())["chain ID"] == ["none: the image has no layers"]
    (done,) = load("--format", "json").records()
    assert (done["unpacked"], done["chain_id"]) == (1, "")
    assert load("--quiet").out == ""
    where = ("--root", str(tmp_path / "root"), "--snapshotter", "native")
    assert call(*where, "snapshots", "ls", "-q").out == ""
    (check,) = call(*where, "images", "check", "--format", "json").records()
    assert (check["status"], check["unpacked_for"]) == ("complete", ["native"])


def test_a_foreign_config_is_not_unpacked_and_said_so(
    load: Import, builder: LayoutBuilder, tmp_path: Path
) -> None:
    layer = builder.add_layer(LAYER)
    foreign = builder.add_blob(b"{}", ARTIFACT)
    builder.tag("latest", builder.add_manifest(foreign, [layer.descriptor]))
    said = lines(load())
    assert said["not unpacked"] == [f"config type '{ARTIFACT}' is not a container image's"]
    assert "chain ID" not in said
    (done,) = load("--format", "json").records()
    assert (done["unpacked"], done["chain_id"]) == (0, "")
    # Fetched whole all the same.
    blobs = call("--root", str(tmp_path / "root"), "content", "ls", "-q").out.split()
    assert {str(layer.descriptor.digest), str(foreign.digest)} < set(blobs)


def test_manifests_that_share_a_config_both_count(load: Import, builder: LayoutBuilder) -> None:
    here = Platform.local()
    plain = builder.add_image(None, [builder.add_layer(LAYER, "none")], platform=here)
    packed = builder.add_image(None, [builder.add_layer(LAYER, "gzip")], platform=here)
    assert plain.digest != packed.digest
    builder.add_index("latest", [plain, packed])
    said = lines(load("--unpack-all"))
    assert said["unpacked"] == ["2 of 2 manifests"]
    assert len(said["chain ID"]) == 2
    assert len(set(said["chain ID"])) == 1
    (done,) = load("--unpack-all", "--format", "json").records()
    assert done["unpacked"] == 2
    manifests = done["manifests"]
    assert isinstance(manifests, list)
    assert len({manifest["config"] for manifest in manifests}) == 1


def test_some_of_an_index(load: Import, builder: LayoutBuilder) -> None:
    layer = builder.add_layer(LAYER)
    image = builder.add_image(None, [layer], platform=Platform.local())
    other = builder.add_image(None, [layer], platform=Platform.parse("plan9/mips"))
    attestation = replace(
        builder.add_image(None, [layer], config={"os": "unknown"}),
        platform=Platform.parse("unknown/unknown"),
    )
    builder.add_index("latest", [image, other, attestation])
    said = lines(load("--all-platforms"))
    assert said["unpacked"] == ["1 of 3 manifests"]
    assert said["chain ID"] == [str(chain_id([layer.diff_id]))]
    assert sorted(set(said["not unpacked"])) == ["it is for another platform"]
