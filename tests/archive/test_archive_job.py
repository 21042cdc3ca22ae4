"""One layer from compressed bytes to a verified directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.layers import LocalSteps, opened
from support.tars import directory, file, gzipped, tar, whiteout, zstandarded
from support.tree_model import observe

from snapcore.archive import (
    ApplyPolicy,
    Destination,
    Expected,
    LayerResult,
    Limits,
    WhiteoutsFirst,
    unpack_layer,
)
from snapcore.errors import DigestMismatch, RefusedInput
from snapcore.oci import Digest, WhiteoutStyle

SQUASH = ApplyPolicy(ids="squash", devices="skip")
LAYER = tar(directory(b"d"), file(b"d/f", b"data" * 1000))
LATE = tar(file(b"d/f", b"new"), whiteout(b"d"))


@contextmanager
def blob_of(top: Path, data: bytes) -> Iterator[int]:
    path = top / "blob"
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def unpack(
    top: Path,
    data: bytes,
    expected: Expected,
    *,
    whiteouts_first: bool = False,
    steps: LocalSteps | None = None,
    base: bool = True,
) -> LayerResult:
    target = top / "target"
    target.mkdir(exist_ok=True)
    with blob_of(top, data) as blob, opened(str(target)) as place:
        return unpack_layer(
            blob,
            Destination(place, None, WhiteoutStyle.APPLY, base),
            expected,
            Limits(),
            SQUASH,
            steps or LocalSteps(),
            whiteouts_first=whiteouts_first,
        )


def honest(layer: bytes, blob: bytes, algorithm: str = "sha256") -> Expected:
    return Expected(Digest.of(blob, algorithm), len(blob), Digest.of(layer, algorithm))


@pytest.mark.parametrize("pack", [bytes, gzipped, zstandarded])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("whiteouts_first", [False, True])
def test_a_layer_is_applied_and_reported(
    pack: type[bytes], algorithm: str, whiteouts_first: bool, tmp_path: Path, census: None
) -> None:
    blob = pack(LAYER)
    expected = honest(LAYER, blob, algorithm)
    result = unpack(tmp_path, blob, expected, whiteouts_first=whiteouts_first)
    assert result == LayerResult(2, len(LAYER), {})
    assert sorted(observe(str(tmp_path / "target"))) == [(), (b"d",), (b"d", b"f")]


@pytest.mark.parametrize("whiteouts_first", [False, True])
@pytest.mark.parametrize("wrong", ["digest", "size", "diff_id"])
def test_each_mismatch_is_named_with_both_values(
    wrong: str, whiteouts_first: bool, tmp_path: Path, census: None
) -> None:
    blob = gzipped(LAYER)
    right = honest(LAYER, blob)
    other = Digest.of(b"other")
    expected = {
        "digest": Expected(other, right.size, right.diff_id),
        "size": Expected(right.digest, right.size + 1, right.diff_id),
        "diff_id": Expected(right.digest, right.size, other),
    }[wrong]
    with pytest.raises(DigestMismatch) as caught:
        unpack(tmp_path, blob, expected, whiteouts_first=whiteouts_first)
    told = {
        "digest": (str(other), str(right.digest)),
        "size": (str(right.size), str(right.size + 1)),
        "diff_id": (str(other), str(right.diff_id)),
    }[wrong]
    assert all(value in str(caught.value) for value in told)
    if whiteouts_first:
        assert os.listdir(tmp_path / "target") == [], "unverified bytes were applied"


def test_a_late_whiteout_takes_a_second_run(tmp_path: Path, census: None) -> None:
    expected = honest(LATE, LATE)
    unpack(tmp_path, LAYER, honest(LAYER, LAYER))
    with pytest.raises(WhiteoutsFirst):
        unpack(tmp_path, LATE, expected, base=False)
    result = unpack(tmp_path, LATE, expected, whiteouts_first=True, base=False)
    assert result.entries == 2
    assert (tmp_path / "target/d/f").read_bytes() == b"new"


def test_a_bad_layer_leaves_no_thread_behind(tmp_path: Path, census: None) -> None:
    bad = gzipped(tar(file(b"a/../b", b"x")))
    with pytest.raises(RefusedInput):
        unpack(tmp_path, bad, honest(b"", bad))


def test_progress_is_told(tmp_path: Path) -> None:
    class Counting(LocalSteps):
        reads: list[int]

        def progress(self, read: int) -> None:
            self.reads = [*getattr(self, "reads", []), read]

    steps = Counting()
    blob = gzipped(LAYER)
    unpack(tmp_path, blob, honest(LAYER, blob), steps=steps)
    assert steps.reads[-1] == len(blob)
