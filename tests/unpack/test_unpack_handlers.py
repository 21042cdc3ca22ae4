"""Handlers: walking, choosing a platform, and the label keys of children."""

from __future__ import annotations

import pytest

from snapcore.errors import NotFound, RefusedInput
from snapcore.oci import Descriptor, Digest, Platform
from snapcore.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from snapcore.unpack import SkipDescriptor, choose, dispatch, single_error
from snapcore.unpack.handlers import MAX_INDEX_DEPTH, child_labels


def named(text: str, media_type: str, platform: str = "") -> Descriptor:
    return Descriptor(
        media_type,
        Digest.of(text.encode()),
        1,
        platform=Platform.parse(platform) if platform else None,
    )


INDEX = named("index", OCI_INDEX)


def test_choose_takes_the_best_variant() -> None:
    children = [
        named("v6", OCI_MANIFEST, "linux/arm/v6"),
        named("v7", OCI_MANIFEST, "linux/arm/v7"),
        named("amd", OCI_MANIFEST, "linux/amd64"),
    ]
    assert choose(INDEX, children, Platform.parse("linux/arm/v7")) == (children[1],)
    assert choose(INDEX, children, Platform.parse("linux/amd64/v3")) == (children[2],)


def test_choose_names_what_there_is() -> None:
    children = [named("amd", OCI_MANIFEST, "linux/amd64")]
    with pytest.raises(NotFound, match=r"linux/s390x.*it has linux/amd64"):
        choose(INDEX, children, Platform.parse("linux/s390x"))


def test_choose_falls_back_to_a_manifest_without_platform() -> None:
    children = [named("any", OCI_MANIFEST), named("amd", OCI_MANIFEST, "linux/amd64")]
    assert choose(INDEX, children, Platform.parse("linux/s390x")) == (children[0],)


def test_child_labels_have_the_forms_of_containerd() -> None:
    children = [
        named("c", OCI_CONFIG),
        named("l0", OCI_LAYER),
        named("l1", OCI_LAYER + "+gzip"),
        named("m", OCI_MANIFEST),
        named("x", "application/x"),
    ]
    prefix = "containerd.io/gc.ref.content"
    assert child_labels(children) == {
        f"{prefix}.config": str(children[0].digest),
        f"{prefix}.l.0": str(children[1].digest),
        f"{prefix}.l.1": str(children[2].digest),
        f"{prefix}.m.0": str(children[3].digest),
        f"{prefix}.0": str(children[4].digest),
    }


async def test_dispatch_visits_everything_once_and_honours_skip() -> None:
    tree = {"index": ["a", "b"], "a": ["c"], "b": ["never"]}
    seen: list[Digest] = []

    async def handler(descriptor: Descriptor) -> tuple[Descriptor, ...]:
        seen.append(descriptor.digest)
        if descriptor == named("b", OCI_INDEX):
            raise SkipDescriptor
        names = [n for n in tree if named(n, OCI_INDEX) == descriptor]
        return tuple(named(child, OCI_INDEX) for n in names for child in tree[n])

    await dispatch(handler, [INDEX])
    assert sorted(seen) == sorted(named(n, OCI_INDEX).digest for n in ("index", "a", "b", "c"))


async def test_dispatch_bounds_the_depth() -> None:
    async def handler(descriptor: Descriptor) -> tuple[Descriptor, ...]:
        return (named(str(descriptor.digest), OCI_INDEX),)

    with pytest.raises(RefusedInput, match=f"more than {MAX_INDEX_DEPTH} deep"), single_error():
        await dispatch(handler, [INDEX])
