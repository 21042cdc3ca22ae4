"""One layer for several targets: inflated and hashed once, applied by a process for each.

The feeding process writes the uncompressed tar to a pipe for each sink, at the slowest one's pace;
memory is bounded by the stream's channels and the pipes. Only the feeder knows whether the bytes
are those that the image names, so what a sink has made counts only if the feeder succeeds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final

from snapcore.archive.apply import apply_entries
from snapcore.archive.blocks import BlockReader
from snapcore.archive.job import layer_stream, verify
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
from snapcore.errors import from_os_error

_BLOCK: Final = 1 << 18


def feed_layer(
    blob: int,
    expected: Expected,
    limits: Limits,
    steps: Steps,
    passes: Sequence[Sequence[int]],
) -> int:
    """Inflate and hash a layer, write it to pipes, and compare its digests.

    A pipe whose reader has gone is passed over: the reader's own process says why.

    Args:
        blob: open descriptor of the compressed layer, at its beginning; seekable if it is read
            more than once.
        expected: what it must turn out to be.
        limits: its budgets.
        steps: told the progress of the last pass.
        passes: for each time that the layer is read, the pipes that get it; they are closed.

    Returns:
        Uncompressed bytes.

    Raises:
        DigestMismatch: the blob, or what is in it, is not what the image says.
        RefusedInput: it is damaged or past a budget.
        SnapcoreError: reading or writing failed.
    """
    size = 0
    for number, pipes in enumerate(passes, 1):
        os.lseek(blob, 0, os.SEEK_SET)
        on_read = steps.progress if number == len(passes) else None
        with layer_stream(blob, expected, limits, on_read) as stream:
            _write_all(stream, pipes)
            digests = stream.finish()
        verify(digests, expected)
        size = digests.size
    return size


def apply_stream(
    pipe: int,
    destination: Destination,
    limits: Limits,
    policy: ApplyPolicy,
    steps: Steps,
    *,
    before: int | None = None,
) -> LayerResult:
    """Apply a layer's uncompressed tar as it comes out of a pipe.

    Args:
        pipe: open for reading.
        destination: where it goes; spoilt unless this returns and the feeder succeeds too.
        limits: the layer's budgets.
        policy: what happens to owners and devices.
        steps: what the parent process does for us.
        before: another pipe that brings the same layer first, to apply its deletions before
            anything else.

    Raises:
        WhiteoutsFirst: it must be done again with `before`.
        SnapcoreError: as `unpack_layer`.
    """
    deletions = None
    if before is not None:
        source = BlockReader(lambda: _read(before))
        deletions = collect(TarReader(source, limits))
        _drain(source)
    source = BlockReader(lambda: _read(pipe))
    reader = TarReader(source, limits)
    skipped = apply_entries(reader, destination, policy, steps, deletions)
    # The feeder waits until all is taken.
    _drain(source)
    return LayerResult(reader.entries, source.position, skipped)


def _write_all(stream: BlockReader, pipes: Sequence[int]) -> None:
    open_pipes = list(pipes)
    try:
        for view in _views(stream):
            for pipe in tuple(open_pipes):
                if not _write(pipe, view):
                    open_pipes.remove(pipe)
                    os.close(pipe)
    finally:
        for pipe in open_pipes:
            os.close(pipe)


def _views(stream: BlockReader) -> Iterator[memoryview]:
    while True:
        taken = 0
        for view in stream.views(_BLOCK):
            taken += len(view)
            yield view
        if taken < _BLOCK:
            return


def _write(pipe: int, view: memoryview) -> bool:
    """Write everything; False if nobody reads any more."""
    try:
        while view:
            view = view[os.write(pipe, view) :]
    except BrokenPipeError:
        return False
    except OSError as error:
        raise from_os_error(error, "handing on a layer") from error
    return True


def _read(pipe: int) -> bytes:
    try:
        return os.read(pipe, _BLOCK)
    except OSError as error:
        raise from_os_error(error, "reading a layer from its feeder") from error


def _drain(source: BlockReader) -> None:
    while source.skip(_BLOCK) == _BLOCK:
        pass
