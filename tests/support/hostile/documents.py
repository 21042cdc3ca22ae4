"""Manifests, indexes and configs that attack by lies, and by what they ask of a node."""

from __future__ import annotations

from typing import Final

from snapcore.errors import DigestMismatch, NotFound
from snapcore.oci.descriptor import (
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_NONDISTRIBUTABLE,
    OCI_MANIFEST,
)
from snapcore.oci.manifest import MAX_CHILDREN, MAX_DOCUMENT_BYTES
from support.hostile.press import (
    EMPTY,
    FOREIGN,
    Edit,
    HostileDocument,
    Json,
    Pressed,
    config,
    dump,
    good_config,
    good_manifest,
    index,
    manifest,
    nested,
    refused,
    replaced,
    same,
    with_config,
    with_layer,
    with_members,
)
from support.hostile.spelling import BEGIN, BOM, DEEP, PADDING, SPELLINGS

_EVIL: Final = {
    "containerd.io/gc.root": "2000-01-01T00:00:00Z",
    "containerd.io/gc.expire": "2000-01-01T00:00:00Z",
    "containerd.io/gc.ref.content.evil": str(FOREIGN),
    "containerd.io/gc.ref.snapshot.overlay": "evil",
    "containerd.io/gc.bref.content": str(FOREIGN),
    "containerd.io/snapshot.ref": "evil",
    "containerd.io/snapshot/uidmapping": "0:100000:65536",
    "containerd.io/snapshot/gidmapping": "0:100000:65536",
    "containerd.io/uncompressed": str(FOREIGN),
    "snapcore.io/owner": "evil",
}
"""Annotations that would steer the node if they became labels."""


def _layers(*layers: object) -> Edit:
    return with_members(layers=list(layers))


def _diff_ids(*digests: object) -> Edit:
    return with_members(rootfs={"type": "layers", "diff_ids": list(digests)})


def _many(number: int, member: str) -> Edit:
    def edit(document: Json) -> object:
        children = document[member]
        assert isinstance(children, list)
        return document | {member: children * number}

    return edit


def _twice(edit: Edit) -> Edit:
    """Return an edit of a config that has the same diff ID twice."""

    def both(document: Json) -> object:
        rootfs = document["rootfs"]
        assert isinstance(rootfs, dict)
        return edit(document | {"rootfs": rootfs | {"diff_ids": rootfs["diff_ids"] * 2}})

    return both


def _config_is_layer(layer: bytes) -> Pressed:
    return Pressed(dump(good_manifest(layer, layer)), OCI_MANIFEST, layer)


def _manifest_is_config(layer: bytes) -> Pressed:
    return Pressed(dump(good_config(layer)), OCI_MANIFEST, layer)


MANIFESTS: Final[tuple[HostileDocument, ...]] = (
    # --- types ---------------------------------------------------------------------------------
    refused("schema-1", "Docker's first format", manifest(media_type=DOCKER_SCHEMA1), "schema 1"),
    refused("schema-1-signed", "and its signed form",
             manifest(media_type=DOCKER_SCHEMA1_SIGNED), "schema 1"),
    refused("schema-version-1", "version 1 under a new type",
             manifest(with_members(schemaVersion=1)), "version 1"),
    refused("schema-version-text", "a version in quotes",
             manifest(with_members(schemaVersion="2")), "malformed"),
    refused("fs-layers", "the members of schema 1 beside those of 2",
             manifest(with_members(fsLayers=[{"blobSum": str(EMPTY)}])), "fsLayers"),
    refused("type-contradicts", "CVE-2021-41190: the body says index",
             manifest(with_members(mediaType=OCI_INDEX)), "contradicts"),
    refused("type-docker", "the body says another format",
             manifest(with_members(mediaType=DOCKER_MANIFEST)), "contradicts"),
    refused("type-header-index", "the registry says index",
             manifest(media_type=OCI_INDEX), "contradicts"),
    refused("both", "CVE-2021-41190: layers and manifests",
             manifest(with_members(manifests=[])), "ambiguous"),
    refused("docker-untyped", "Docker's format without its type",
             manifest(with_members(mediaType=""), media_type=DOCKER_MANIFEST), "does not name"),
    refused("config-as-manifest", "a config under a manifest's type", _manifest_is_config),
    # --- members -------------------------------------------------------------------------------
    refused("no-config", "no config", manifest(with_members(config=None)), "no config"),
    refused("config-list", "a list of configs", manifest(with_members(config=[])), "malformed"),
    refused("layers-object", "an object of layers", manifest(with_members(layers={})),
             "malformed"),
    refused("layers-null", "no layers, of a config with one",
             manifest(with_members(layers=None)), "0 layers"),
    refused("layer-null", "a layer that is nothing", manifest(_layers(None)), "malformed"),
    refused("layers-1001", "more layers than anybody stacks",
             manifest(_many(MAX_CHILDREN + 1, "layers")), "1001 children"),
    refused("layers-twice", "one more layer than the config has",
             manifest(_many(2, "layers")), "2 layers"),
    refused("annotation-number", "an annotation that is no text",
             manifest(with_members(annotations={"a": 1})), "malformed"),
    # --- sizes ---------------------------------------------------------------------------------
    refused("size-negative", "below 0", manifest(with_layer(size=-1)), "out of range"),
    refused("size-2-63", "past 63 bits", manifest(with_layer(size=2**63)), "out of range"),
    refused("size-10-30", "past any integer", manifest(with_layer(size=10**30)), "out of range"),
    refused("size-text", "in quotes", manifest(with_layer(size="7")), "malformed"),
    refused("size-fraction", "half a byte", manifest(with_layer(size=7.5)), "malformed"),
    refused("size-missing", "none", manifest(with_layer(size=None)), "malformed"),
    refused("size-0", "`unknown` for others: exact here", manifest(with_layer(size=0)),
             kind=DigestMismatch, by_bytes=True),
    refused("size-1", "less than there is", manifest(with_layer(size=1)),
             kind=DigestMismatch, by_bytes=True),
    refused("config-size", "a config of another size than the registry has",
             manifest(with_config(size=MAX_DOCUMENT_BYTES + 1)), kind=DigestMismatch),
    # --- digests -------------------------------------------------------------------------------
    refused("digest-traversal", "CVE-2024-3727: a path",
             manifest(with_layer(digest="sha256:../../../../canary/secret")), "digest"),
    refused("digest-traversal-long", "a path of the right length",
             manifest(with_layer(digest="sha256:" + "../" * 21 + "x")), "digest"),
    refused("digest-algorithm", "an algorithm that is a path",
             manifest(with_layer(digest="../sha256:" + "ab" * 32)), "digest"),
    refused("digest-md5", "an algorithm that nobody trusts",
             manifest(with_layer(digest="md5:" + "ab" * 16)), "digest"),
    refused("digest-upper-case", "one blob by two names",
             manifest(with_layer(digest="sha256:" + "AB" * 32)), "digest"),
    refused("digest-short", "too short", manifest(with_layer(digest="sha256:ab")), "digest"),
    refused("digest-newline", "a newline after the right one",
             manifest(with_layer(digest="sha256:" + "ab" * 32 + "\n")), "digest"),
    refused("digest-empty", "none", manifest(with_layer(digest="")), "digest"),
    refused("digest-sha512-short", "sha512 with sha256's length",
             manifest(with_layer(digest="sha512:" + "ab" * 32)), "digest"),
    refused("config-digest-traversal", "a path to the config",
             manifest(with_config(digest="sha256:/etc/shadow")), "digest"),
    refused("subject-digest", "a path in what it refers to",
             manifest(with_members(subject={"mediaType": OCI_MANIFEST, "digest": "sha256:..",
                                            "size": 1})), "digest"),
    # --- media types of layers -----------------------------------------------------------------
    refused("layer-xz", "a compression that nobody announced",
             manifest(with_layer(mediaType=OCI_LAYER + "+xz")), "cannot be unpacked"),
    refused("layer-encrypted", "an encrypted layer",
             manifest(with_layer(mediaType=OCI_LAYER + "+gzip+encrypted")), "cannot be unpacked"),
    refused("layer-erofs", "a filesystem for the kernel's parser",
             manifest(with_layer(mediaType="application/vnd.erofs.layer.v1")),
             "cannot be unpacked"),
    refused("layer-header", "a header in a media type",
             manifest(with_layer(mediaType="a/b\r\nAuthorization: x")), "media type"),
    refused("config-is-the-layer", "a layer under a config's type", _config_is_layer,
             "malformed", by_bytes=True),
    HostileDocument("annotations-gc", "annotations that would keep or free content",
                    manifest(with_members(annotations=_EVIL)), None),
    HostileDocument("layer-annotations", "the same on a layer, from where snapshots get labels",
                    manifest(with_layer(annotations=_EVIL)), None),
    HostileDocument("config-annotations", "the same on the config",
                    manifest(with_config(annotations=_EVIL)), None),
    HostileDocument("foreign-urls", "CVE-2020-15157: a layer that is to be had elsewhere",
                    manifest(with_layer(mediaType=OCI_LAYER_NONDISTRIBUTABLE + "+gzip",
                                        urls=["http://127.0.0.1:1/evil", "file:///etc/shadow"])),
                    None),
)  # fmt: skip

CONFIGS: Final[tuple[HostileDocument, ...]] = (
    refused("diff-ids-none", "fewer diff IDs than layers", config(_diff_ids()), "0 diff IDs"),
    refused("diff-ids-two", "more diff IDs than layers", config(_twice(same)), "2 diff IDs"),
    refused("rootfs-type", "a root filesystem that is no layers",
             config(with_members(rootfs={"type": "squashfs", "diff_ids": []})), "rootfs.type"),
    refused("rootfs-none", "no root filesystem", config(with_members(rootfs=None)),
             "rootfs.type"),
    refused("rootfs-list", "a list of them", config(with_members(rootfs=[])), "malformed"),
    refused("diff-id-traversal", "a path", config(_diff_ids("sha256:" + "../" * 21 + "x")),
             "digest"),
    refused("diff-id-upper-case", "one snapshot by two names",
             config(_diff_ids("sha256:" + "AB" * 32)), "digest"),
    refused("diff-id-number", "a number", config(_diff_ids(7)), "malformed"),
    refused("config-duplicate", "one key twice", config(spell=BEGIN(b'{"rootfs":{},')),
             "duplicate"),
    refused("config-case", "`RootFS`, which Go takes", config(spell=BEGIN(b'{"RootFS":{},')),
             "duplicate"),
    refused("config-case-diff-ids", "`DIFF_IDS` inside it",
             config(spell=replaced(b'"diff_ids"', b'"DIFF_IDS":[],"diff_ids"')), "duplicate"),
    refused("config-bom", "a byte order mark", config(spell=lambda data: BOM + data),
             "malformed"),
    refused("config-deep", "recursion", config(spell=BEGIN(b"{" + DEEP)), "malformed"),
    refused("config-4-MiB", "a config past its limit", config(spell=lambda data: data + PADDING)),
    refused("config-text", "no JSON", config(spell=lambda _: b"FROM scratch\n"), "malformed"),
    refused("diff-id-foreign", "another layer's diff ID", config(_diff_ids(str(FOREIGN))),
             "diff ID", kind=DigestMismatch, by_bytes=True),
)  # fmt: skip

INDEXES: Final[tuple[HostileDocument, ...]] = (
    refused("children-1001", "more manifests than anybody builds",
             index(_many(MAX_CHILDREN + 1, "manifests")), "1001 children"),
    refused("nested-6", "indexes in indexes", nested(6), "nested"),
    refused("nested-40", "many of them", nested(40), "nested"),
    refused("index-both", "manifests and layers", index(with_members(layers=[])), "ambiguous"),
    refused("index-type", "the registry says manifest", index(media_type=OCI_MANIFEST),
             "contradicts"),
    refused("index-duplicate", "its manifests twice", index(spell=BEGIN(b'{"manifests":[],')),
             "duplicate"),
    refused("index-case", "`Manifests`, which Go takes", index(spell=BEGIN(b'{"Manifests":[],')),
             "duplicate"),
    refused("index-object", "an object of manifests", index(with_members(manifests={})),
             "malformed"),
    refused("index-nothing", "no manifests at all", index(with_members(manifests=[])),
             kind=NotFound),
    refused("child-platform-text", "a platform that is a text",
             index(child={"platform": "linux/amd64"}), "malformed"),
    refused("child-other-platform", "nothing for this host",
             index(child={"platform": {"os": "plan9", "architecture": "mips"}}), kind=NotFound),
    refused("child-traversal", "a path", index(child={"digest": "sha256:" + "../" * 21 + "x"}),
             "digest"),
    refused("child-size", "a size that is a lie", index(child={"size": 7}),
             kind=DigestMismatch),
    refused("child-size-4-MiB", "a manifest past its limit, by the word of the index",
             index(child={"size": MAX_DOCUMENT_BYTES + 1}), kind=DigestMismatch),
    refused("child-size-negative", "below 0", index(child={"size": -1}), "out of range"),
    refused("child-is-an-index", "a manifest that the index calls an index",
             index(child={"mediaType": OCI_INDEX}), "is served as"),
    refused("child-schema-1", "an old manifest behind a new index",
             index(child={"mediaType": DOCKER_SCHEMA1}), kind=NotFound),
    refused("child-is-a-config", "a child that is no image",
             index(child={"mediaType": OCI_CONFIG}), kind=NotFound),
    HostileDocument("index-annotations", "annotations on the way, which would be labels",
                    index(with_members(annotations=_EVIL), child={"annotations": _EVIL}), None),
)  # fmt: skip

DOCUMENTS: Final = (*SPELLINGS, *MANIFESTS, *CONFIGS, *INDEXES)
EVIL_LABELS: Final = frozenset(_EVIL) - {
    "containerd.io/snapshot.ref", "containerd.io/uncompressed",
    "containerd.io/gc.ref.snapshot.overlay",
}  # fmt: skip
"""Those that the node does not write itself, with values of its own."""
