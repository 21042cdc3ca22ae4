"""Which format a layer is tried in, by what its manifest says of it."""

from __future__ import annotations

import pytest

from snapcore.oci import Descriptor, Digest
from snapcore_fuse.formats import TOC_DIGEST, LayerFormat, LazySettings, plan_layer

OCI = "application/vnd.oci.image.layer.v1.tar"
DOCKER = "application/vnd.docker.image.rootfs.diff.tar"
TOC = {TOC_DIGEST: str(Digest.of(b"toc"))}


def layer(
    media_type: str, size: int = 5 << 20, annotations: dict[str, str] | None = None
) -> Descriptor:
    return Descriptor(media_type, Digest.of(b"blob"), size, annotations or {})


@pytest.mark.parametrize(
    ("descriptor", "wanted"),
    [
        (layer(f"{OCI}+gzip"), LayerFormat.GZIP_SPANS),
        (layer(f"{DOCKER}.gzip"), LayerFormat.GZIP_SPANS),
        (layer(OCI), LayerFormat.TAR),
        (layer(DOCKER), LayerFormat.TAR),
        (layer(f"{OCI}+gzip", annotations=TOC), LayerFormat.ESTARGZ),
        (layer(OCI, annotations=TOC), LayerFormat.TAR),
    ],
)
def test_the_format_follows_from_media_type_and_annotations(
    descriptor: Descriptor, wanted: LayerFormat
) -> None:
    plan = plan_layer(descriptor, LazySettings())
    assert (plan.lazy, plan.format, plan.reason) == (True, wanted, "")


@pytest.mark.parametrize(
    ("descriptor", "reason"),
    [
        (layer(f"{OCI}+zstd"), "zstd"),
        (layer(f"{OCI}+encrypted"), "no tar layer"),
        (layer("application/vnd.in-toto+json"), "no tar layer"),
        (layer(f"{OCI}+gzip", size=(1 << 20) - 1), "min_layer_size"),
    ],
)
def test_what_cannot_be_lazy_says_why(descriptor: Descriptor, reason: str) -> None:
    plan = plan_layer(descriptor, LazySettings())
    assert not plan.lazy
    assert reason in plan.reason


def test_formats_can_be_switched_off() -> None:
    spans = LazySettings(formats=frozenset({LayerFormat.GZIP_SPANS}))
    assert plan_layer(layer(f"{OCI}+gzip", annotations=TOC), spans).format == "gzip-spans"
    plan = plan_layer(layer(OCI), spans)
    assert not plan.lazy
    assert "'tar'" in plan.reason
