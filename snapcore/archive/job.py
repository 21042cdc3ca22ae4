"""One layer from compressed bytes to a verified directory."""

from __future__ import annotations

import os
from collections.abc import Callable

from snapcore.archive.apart import apply_apart
from snapcore.archive.apply import apply_entries
from snapcore.archive.pipeline import LayerDigests, LayerStream
from snapcore.archive.postponed import Postponed
from snapcore.archive.tar import TarReader
from snapcore.archive.types import (
    ApplyPolicy,
    Destination,
    Expected,
    LayerResult,
    Limits,
    Steps,
)
from snapcore.archive.whiteout import collect
from snapcore.errors import DigestMismatch


def unpack_layer(
    blob: int,
    destination: Destination,
    expected: Expected,
    limits: Limits,
    policy: ApplyPolicy,
    steps: Steps,
    *,
    whiteouts_first: bool,
) -> LayerResult:
    """Inflate, hash, parse and apply a layer, and compare all its digests.

    Args:
        blob: open descriptor of the compressed layer, at its beginning; seekable if
            `whiteouts_first`.
        destination: where it goes; spoilt unless this returns.
        expected: what it must turn out to be.
        limits: its budgets.
        policy: what happens to owners and devices.
        steps: what the parent process does for us.
        whiteouts_first: read it twice and apply all deletions before anything else.

    Raises:
        WhiteoutsFirst: it must be done again with `whiteouts_first`.
        DigestMismatch: the blob, or what is in it, is not what the image says.
        RefusedInput: the layer is malformed or hostile.
        ResourceExhausted, PermissionDenied, DataLoss, Unimplemented: what this host cannot.
    """
    deletions = None
    if whiteouts_first:
        with layer_stream(blob, expected, limits, None) as stream:
            deletions = collect(TarReader(stream, limits))
            verify(stream.finish(), expected)
        os.lseek(blob, 0, os.SEEK_SET)
    with layer_stream(blob, expected, limits, steps.progress) as stream:
        reader = TarReader(stream, limits)
        skipped = apply_entries(reader, destination, policy, steps, deletions)
        digests = stream.finish()
    verify(digests, expected)
    return LayerResult(reader.entries, digests.size, skipped)


def unpack_apart(
    blob: int,
    destination: Destination,
    expected: Expected,
    limits: Limits,
    policy: ApplyPolicy,
    steps: Steps,
) -> tuple[LayerResult, Postponed]:
    """Inflate, hash, parse and apply a layer apart from its parents, and compare its digests.

    Args:
        blob: open descriptor of the compressed layer, at its beginning.
        destination: an empty upper directory, without `lower`; spoilt unless this returns.
        expected: what it must turn out to be.
        limits: its budgets.
        policy: what happens to owners and devices.
        steps: what the parent process does for us.

    Returns:
        What was done, and what `settle` must do before the layer may be used.

    Raises:
        InOrder: the layer must be unpacked over its parents instead.
        SnapcoreError: as `unpack_layer`.
    """
    with layer_stream(blob, expected, limits, steps.progress) as stream:
        reader = TarReader(stream, limits)
        skipped, postponed = apply_apart(reader, destination, policy, steps)
        digests = stream.finish()
    verify(digests, expected)
    return LayerResult(reader.entries, digests.size, skipped), postponed


def layer_stream(
    blob: int, expected: Expected, limits: Limits, on_read: Callable[[int], None] | None
) -> LayerStream:
    """Start reading a layer; `on_read` is told the compressed bytes taken so far."""
    return LayerStream(
        blob,
        limits,
        blob_algorithm=expected.digest.algorithm,
        diff_algorithm=expected.diff_id.algorithm,
        on_read=on_read,
    )


def verify(found: LayerDigests, expected: Expected) -> None:
    """Compare what a layer turned out to be with what the image says.

    Raises:
        DigestMismatch: it is something else.
    """
    if found.blob_size != expected.size:
        raise DigestMismatch(
            f"layer {expected.digest} has {found.blob_size} bytes, not {expected.size}"
        )
    if found.blob != expected.digest:
        raise DigestMismatch(f"layer {expected.digest} has digest {found.blob}")
    if found.diff_id != expected.diff_id:
        raise DigestMismatch(
            f"layer {expected.digest} has diff ID {found.diff_id}, the image's config says"
            f" {expected.diff_id}"
        )
