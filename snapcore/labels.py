"""Every label key, once, and which of them an image may hand down.

Labels are control plane: they decide what is collected, mapped and mounted. An image's author
may set only the keys in `INHERITABLE`; that is an allow-list, never a prefix (CVE-2026-53488).
Keys are containerd's own wherever it has one, so that both can read a node; ours begin with
`snapcore.io/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from snapcore.errors import InvalidArgument

MAX_LABEL_BYTES: Final = 4096
"""Most bytes that a key and its value may have together (containerd, pkg/labels)."""

# --- on snapshots: what prepare and commit are told ---------------------------------------
SNAPSHOT_REF: Final = "containerd.io/snapshot.ref"
"""Chain ID that this snapshot will have; lets a remote snapshotter supply it by itself."""
SNAPSHOT_DIFF_ID: Final = "containerd.io/snapshot/diff-id"
SNAPSHOT_PARENT_CHAIN_ID: Final = "containerd.io/snapshot/parent-chain-id"
SNAPSHOT_UIDMAP: Final = "containerd.io/snapshot/uidmapping"
SNAPSHOT_GIDMAP: Final = "containerd.io/snapshot/gidmapping"
SNAPSHOT_MAX_SIZE: Final = "containerd.io/snapshot/max-size"
OVERLAY_UPPERDIR: Final = "containerd.io/snapshot/overlay.upperdir"
"""Host path of an overlay snapshot's own files; made up on every answer, never stored."""
CRI_IMAGE_REF: Final = "containerd.io/snapshot/cri.image-ref"
CRI_MANIFEST_DIGEST: Final = "containerd.io/snapshot/cri.manifest-digest"
CRI_LAYER_DIGEST: Final = "containerd.io/snapshot/cri.layer-digest"
CRI_IMAGE_LAYERS: Final = "containerd.io/snapshot/cri.image-layers"
"""Digests of this layer and those above it, comma-separated, as many as fit into a label."""
SOURCE_PLAIN_HTTP: Final = "snapcore.io/source.plain-http"
"""`true`: the image was pulled from its registry without TLS, and a lazy backend shall so too."""
SOURCE_INSECURE: Final = "snapcore.io/source.insecure"
"""`true`: the registry's certificate was not checked, and a lazy backend shall not either."""

# --- on content ---------------------------------------------------------------------------
UNCOMPRESSED: Final = "containerd.io/uncompressed"
"""Diff ID of a layer blob, written where the layer was really applied here."""
DISTRIBUTION_SOURCE: Final = "containerd.io/distribution.source."
"""Prefix; the registry's host follows. Value: comma-separated repositories that have the blob."""

INDEX_OF_LAYER: Final = "snapcore.io/index.layer"
"""On an index that a plugin has made: digest of the layer that it is of."""

# --- for the garbage collector --------------------------------------------------------------
GC_ROOT: Final = "containerd.io/gc.root"
GC_REF_CONTENT: Final = "containerd.io/gc.ref.content"
GC_REF_SNAPSHOT: Final = "containerd.io/gc.ref.snapshot."
"""Prefix; the snapshotter's name follows. Value: the snapshot that must be kept."""

GC_REF_IMAGE: Final = "containerd.io/gc.ref.image"
GC_BREF: Final = "containerd.io/gc.bref."
"""What all keys begin with by which a thing says who keeps it."""
GC_BREF_CONTENT: Final = "containerd.io/gc.bref.content"
"""On the child: the blob of this digest keeps me, as if it had a `gc.ref` label."""
GC_BREF_IMAGE: Final = "containerd.io/gc.bref.image"
GC_BREF_SNAPSHOT: Final = "containerd.io/gc.bref.snapshot."
GC_FLAT: Final = "containerd.io/gc.flat"
"""On a lease: keep what it names, but not what their labels name."""
GC_EXPIRE: Final = "containerd.io/gc.expire"
"""On a lease or an image: the time (RFC 3339) from which on it keeps nothing."""
OWNER: Final = "snapcore.io/owner"
"""On snapshots made through the service: only its client removes them; never shown."""

# What a layer's annotations may hand down to prepare and commit: sizes and hints that cannot
# change who owns, keeps or sees anything.
INHERITABLE: Final = frozenset({SNAPSHOT_MAX_SIZE})


def gc_ref_snapshot(snapshotter: str) -> str:
    """Return the key that makes a config blob keep a snapshot of `snapshotter`."""
    return GC_REF_SNAPSHOT + snapshotter


def distribution_source(host: str) -> str:
    """Return the key that records which repositories of `host` a blob came from."""
    return DISTRIBUTION_SOURCE + host


def image_layers(digests: Iterable[object]) -> str:
    """Return the value of `CRI_IMAGE_LAYERS` for a layer and those above it.

    The last ones are left out where they would break the size rule.
    """
    room = MAX_LABEL_BYTES - len(CRI_IMAGE_LAYERS)
    text = ",".join(str(digest) for digest in digests)
    return text if len(text) <= room else text[: text.rfind(",", 0, room + 1)]


def inherited(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the annotations that an image may hand down as snapshot labels.

    A value that breaks the size rule is dropped too: a hint is not worth refusing an image.
    """
    return {
        key: value
        for key, value in annotations.items()
        if key in INHERITABLE and len(key.encode()) + len(value.encode()) <= MAX_LABEL_BYTES
    }


def check(labels: Mapping[str, str]) -> None:
    """Check label sizes and characters.

    Raises:
        InvalidArgument: an empty key, a NUL or control character in a key, a lone surrogate
            (labels are kept and sent as UTF-8), or a key and value of more than
            `MAX_LABEL_BYTES` together.
    """
    for key, value in labels.items():
        if not key or any(ord(c) < 32 or ord(c) == 127 for c in key):
            raise InvalidArgument(f"bad label key: {key[:100]!r}")
        try:
            size = len(key.encode()) + len(value.encode())
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"label {key[:60]!r} is not valid Unicode") from error
        if size > MAX_LABEL_BYTES:
            raise InvalidArgument(
                f"label {key[:60]!r} is {size} bytes long with its value; at most {MAX_LABEL_BYTES}"
            )


def parse(items: tuple[str, ...]) -> dict[str, str]:
    """Parse `key=value` arguments; `key=` gives the empty value, which deletes in an update.

    Raises:
        InvalidArgument: an item has no `=`, or the label breaks a rule.
    """
    parsed: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise InvalidArgument(f"not a label: {item[:100]!r} (want key=value)")
        parsed[key] = value
    check(parsed)
    return parsed
