"""The threaded stream: digests at its end, errors in the caller, nothing left behind."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support import tars

from snapcore.archive import LayerStream, Limits, TarReader
from snapcore.archive.pipeline import _Channel
from snapcore.errors import FailedPrecondition, InvalidArgument, RefusedInput

pytestmark = pytest.mark.usefixtures("census")

FILES = {b"f%d" % number: random.Random(number).randbytes(90_000) for number in range(40)}
ARCHIVE = tars.tar(*[tars.file(name, data) for name, data in FILES.items()])


@contextmanager
def blob(data: bytes) -> Iterator[int]:
    """Give an open blob."""
    descriptor = os.memfd_create("blob")
    try:
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("pack", [bytes, tars.gzipped, tars.zstandarded])
def test_parses_while_it_hashes(pack: type[bytes]) -> None:
    packed = pack(ARCHIVE)
    with blob(packed) as descriptor, LayerStream(descriptor, Limits()) as stream:
        reader = TarReader(stream, Limits())
        found = {entry.path[0]: b"".join(reader.payload()) for entry in reader}
        digests = stream.finish()
    assert found == FILES
    assert digests.blob.hex == hashlib.sha256(packed).hexdigest()
    assert digests.diff_id.hex == hashlib.sha256(ARCHIVE).hexdigest()
    assert (digests.blob_size, digests.size) == (len(packed), len(ARCHIVE))


def test_finish_drains_what_nobody_read() -> None:
    with (
        blob(tars.gzipped(ARCHIVE)) as descriptor,
        LayerStream(descriptor, Limits(), diff_algorithm="sha512") as stream,
    ):
        assert stream.read(512) == ARCHIVE[:512]
        digests = stream.finish()
    assert str(digests.diff_id) == f"sha512:{hashlib.sha512(ARCHIVE).hexdigest()}"


def test_damage_surfaces_in_the_caller_at_its_place() -> None:
    packed = bytearray(tars.gzipped(ARCHIVE))
    packed[-5] ^= 1
    with blob(bytes(packed)) as descriptor, LayerStream(descriptor, Limits()) as stream:
        reader = TarReader(stream, Limits())
        with pytest.raises(RefusedInput, match="gzip member 1 is damaged"):
            for _ in reader:
                pass
        with pytest.raises(RefusedInput, match="gzip member 1 is damaged"):
            stream.finish()


def test_a_failing_hash_does_not_look_like_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def update(self, data: object) -> None:
            raise MemoryError("no more")

        def hexdigest(self) -> str:
            return ""

    with blob(ARCHIVE) as descriptor:
        monkeypatch.setattr("snapcore.archive.pipeline.new_hasher", lambda _: Failing())
        with LayerStream(descriptor, Limits()) as stream, pytest.raises(MemoryError):
            list(stream.views(len(ARCHIVE) + 1))


def test_leaving_early_ends_the_threads() -> None:
    with blob(tars.gzipped(bytes(50_000_000))) as descriptor:
        with LayerStream(descriptor, Limits()) as stream:
            stream.read(10)
        stream.close()
        with pytest.raises(FailedPrecondition, match="closed"):
            stream.finish()


@pytest.mark.parametrize("sent", [b"", tars.gzipped(ARCHIVE)[:5000]])
def test_leaving_early_does_not_wait_for_a_silent_pipe(sent: bytes) -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, sent)
        with LayerStream(reading, Limits()):
            pass
    finally:
        os.close(reading)
        os.close(writing)


def test_reads_a_pipe_to_its_end() -> None:
    reading, writing = os.pipe()
    try:
        packed = tars.gzipped(tars.tar(tars.file(b"f", b"data")))
        with LayerStream(reading, Limits()) as stream:
            os.write(writing, packed[:9])
            os.write(writing, packed[9:])
            os.close(writing)
            writing = -1
            assert [entry.path for entry in TarReader(stream, Limits())] == [(b"f",)]
            assert stream.finish().blob_size == len(packed)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def test_progress_ends_at_the_blob_size() -> None:
    packed = tars.gzipped(ARCHIVE)
    seen: list[int] = []
    with (
        blob(packed) as descriptor,
        LayerStream(descriptor, Limits(), on_read=seen.append) as stream,
    ):
        stream.finish()
    assert seen == sorted(seen)
    assert seen[-1] == len(packed)


class _Full(Exception):
    """Raised where the channel would wait."""


def test_a_channel_waits_once_it_holds_eight_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(condition: threading.Condition, timeout: float | None = None) -> bool:
        raise _Full

    monkeypatch.setattr(threading.Condition, "wait", wait)
    channel = _Channel()
    for _ in range(8):
        assert channel.put(b"block")
    with pytest.raises(_Full):
        channel.put(b"block")
    assert channel.get() == b"block"
    assert channel.put(b"block")


def test_a_budget_surfaces_in_the_caller() -> None:
    with blob(tars.gzipped(bytes(20_000_000))) as descriptor:
        stream = LayerStream(descriptor, Limits(size=10_000_000))
        with stream, pytest.raises(RefusedInput, match="larger than"):
            stream.finish()


@pytest.mark.parametrize(
    ("blob_algorithm", "diff_algorithm"), [("md5", "sha256"), ("sha256", "md5")]
)
def test_unknown_algorithms_start_nothing(blob_algorithm: str, diff_algorithm: str) -> None:
    with blob(b"") as descriptor, pytest.raises(InvalidArgument, match="md5"):
        LayerStream(
            descriptor,
            Limits(),
            blob_algorithm=blob_algorithm,
            diff_algorithm=diff_algorithm,
        )
