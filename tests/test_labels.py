"""Label keys and values."""

from __future__ import annotations

from snapcore import labels
from snapcore.oci import Digest


def test_as_many_layers_are_named_as_fit_into_a_label() -> None:
    digests = [Digest.of(bytes([number])) for number in range(100)]
    assert labels.image_layers(digests[:2]) == f"{digests[0]},{digests[1]}"
    value = labels.image_layers(digests)
    labels.check({labels.CRI_IMAGE_LAYERS: value})
    named = value.split(",")
    assert named == [str(digest) for digest in digests[: len(named)]]
    room = labels.MAX_LABEL_BYTES - len(labels.CRI_IMAGE_LAYERS)
    assert room - len(value) <= len(f",{digests[0]}")
