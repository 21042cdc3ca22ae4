"""What workers do with layers, as calls."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import trio

from snapcore.archive import ApplyPolicy, Destination, Expected, LayerResult, Limits
from snapcore.errors import SnapcoreError, from_os_error
from snapcore.snapshots import Options
from snapcore.unpack import protocol
from snapcore.unpack.pool import Running, WorkerPool

_PIPE_BYTES: Final = 1 << 20
Applied: TypeAlias = LayerResult | SnapcoreError | None
"""What became of one of several destinations."""


@dataclass(frozen=True, slots=True)
class OwnApply:
    """A snapshotter that applies layers by itself.

    Attributes:
        plugin: its name.
        options: what it was opened with.
    """

    plugin: str
    options: Options


@dataclass(frozen=True, slots=True)
class LayerJob:
    """One layer for a worker.

    Attributes:
        blob: open descriptor of the compressed layer, at its beginning.
        destination: where it goes.
        expected: what it must turn out to be.
        limits: its budgets.
        policy: what happens to owners and devices.
        own: the plugin that applies it by itself; None for core's applier.
    """

    blob: int
    destination: Destination
    expected: Expected
    limits: Limits
    policy: ApplyPolicy
    own: OwnApply | None = None


async def apply_layer(
    pool: WorkerPool, job: LayerJob, progress: Callable[[int], None], *, whiteouts_first: bool
) -> LayerResult | None:
    """Apply a layer over what is below it; None if it must be done again, whiteouts first.

    Raises:
        SnapcoreError: as `archive.unpack_layer` and `WorkerPool.run`.
    """
    destination = job.destination
    message = protocol.Layer(
        digest=str(job.expected.digest),
        size=job.expected.size,
        diff_id=str(job.expected.diff_id),
        style=destination.style.value,
        base=destination.base,
        whiteouts_first=whiteouts_first,
        limits=job.limits,
        policy=job.policy,
    )
    return _result(await pool.run(message, (job.blob, *_place(destination)), progress))


async def apply_apart(
    pool: WorkerPool, job: LayerJob, progress: Callable[[int], None], notes: int
) -> LayerResult | None:
    """Apply a layer apart from its parents; None if it must be done in order.

    Args:
        pool: who does it.
        job: the layer; its destination has nothing below.
        progress: told the compressed bytes that have been read.
        notes: an empty file; what is left for `settle` is written there.

    Raises:
        SnapcoreError: as `archive.unpack_apart` and `WorkerPool.run`.
    """
    message = protocol.Apart(
        digest=str(job.expected.digest),
        size=job.expected.size,
        diff_id=str(job.expected.diff_id),
        style=job.destination.style.value,
        limits=job.limits,
        policy=job.policy,
    )
    descriptors = (job.blob, job.destination.directory, notes)
    return _result(await pool.run(message, descriptors, progress))


async def settle_layer(pool: WorkerPool, job: LayerJob, lower: int, notes: int) -> bool:
    """Do what a layer that was applied apart has left; False if it must be done in order.

    Args:
        pool: who does it.
        job: the layer, where it was applied.
        lower: the merged tree of its parents.
        notes: what `apply_apart` wrote.

    Raises:
        SnapcoreError: as `archive.settle` and `WorkerPool.run`.
    """
    message = protocol.Settle(
        digest=str(job.expected.digest),
        style=job.destination.style.value,
        limits=job.limits,
        policy=job.policy,
    )
    descriptors = (notes, job.destination.directory, lower)
    return await pool.run(message, descriptors, _no_progress) is not None


async def apply_to_all(
    pool: WorkerPool,
    jobs: Sequence[LayerJob],
    progress: Callable[[int], None],
    *,
    whiteouts_first: bool,
) -> tuple[Applied, ...]:
    """Apply one layer to some destinations, reading and inflating it once.

    Core's applier for a single one does all in one process; else there is one for each sink.

    Args:
        pool: who does it.
        jobs: one for each destination, all with the same blob.
        progress: told the compressed bytes that have been read.
        whiteouts_first: read it twice and apply all deletions first.

    Returns:
        For each job its result, None if it must be done again, whiteouts first, or why this
        destination failed while the others went on.

    Raises:
        SnapcoreError: the layer itself is not what it should be; nothing counts.
    """
    if len(jobs) == 1 and jobs[0].own is None:
        return (await _alone(pool, jobs[0], progress, whiteouts_first=whiteouts_first),)
    passes = 2 if whiteouts_first else 1
    with ExitStack() as running:
        with ExitStack() as pipes:
            ends = [[_pipe(pipes) for _ in jobs] for _ in range(passes)]
            sinks = [
                running.enter_context(
                    pool.begin(_sink(job, passes), _sink_descriptors(job, [e[n] for e in ends]))
                )
                for n, job in enumerate(jobs)
            ]
            writing = [end.writing for turn in ends for end in turn]
            feed = running.enter_context(
                pool.begin(_feed(jobs[0], passes), (jobs[0].blob, *writing))
            )
        return await _outcomes(sinks, feed, progress)


async def _alone(
    pool: WorkerPool, job: LayerJob, progress: Callable[[int], None], *, whiteouts_first: bool
) -> Applied:
    try:
        return await apply_layer(pool, job, progress, whiteouts_first=whiteouts_first)
    except SnapcoreError as error:
        return error


async def _outcomes(
    sinks: Sequence[Running], feed: Running, progress: Callable[[int], None]
) -> tuple[Applied, ...]:
    results: list[Applied] = [None] * len(sinks)
    wrong: list[SnapcoreError] = []

    async def follow_sink(number: int, sink: Running) -> None:
        try:
            results[number] = _result(await sink.outcome(_no_progress))
        except SnapcoreError as error:
            results[number] = error

    async def follow_feed(nursery: trio.Nursery) -> None:
        try:
            await feed.outcome(progress)
        except SnapcoreError as error:
            wrong.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for number, sink in enumerate(sinks):
            nursery.start_soon(follow_sink, number, sink)
        nursery.start_soon(follow_feed, nursery)
    if wrong:
        raise wrong[0]
    return tuple(results)


def _sink(job: LayerJob, passes: int) -> protocol.Sink | protocol.Own:
    if job.own is not None:
        return protocol.Own(
            digest=str(job.expected.digest),
            plugin=job.own.plugin,
            options=dict(job.own.options),
            limits=job.limits,
        )
    return protocol.Sink(
        digest=str(job.expected.digest),
        style=job.destination.style.value,
        base=job.destination.base,
        passes=passes,
        limits=job.limits,
        policy=job.policy,
    )


def _sink_descriptors(job: LayerJob, pipes: Sequence[_Pipe]) -> tuple[int, ...]:
    reading = (pipe.reading for pipe in pipes)
    if job.own is not None:
        return (job.destination.directory, *reading)
    directory, *lower = _place(job.destination)
    return (directory, *reading, *lower)


def _place(destination: Destination) -> tuple[int, ...]:
    lower = () if destination.lower is None else (destination.lower,)
    return (destination.directory, *lower)


def _feed(job: LayerJob, passes: int) -> protocol.Feed:
    return protocol.Feed(
        digest=str(job.expected.digest),
        size=job.expected.size,
        diff_id=str(job.expected.diff_id),
        passes=passes,
        limits=job.limits,
    )


class _Pipe(NamedTuple):
    reading: int
    writing: int


def _pipe(stack: ExitStack) -> _Pipe:
    try:
        pipe = _Pipe(*os.pipe2(os.O_CLOEXEC))
    except OSError as error:
        raise from_os_error(error, "making a pipe for a layer") from error
    for end in pipe:
        stack.callback(os.close, end)
    # Fewer switches between processes; what is not allowed is only slower.
    with suppress(PermissionError):
        fcntl.fcntl(pipe.writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return pipe


def _result(done: protocol.Done | None) -> LayerResult | None:
    return None if done is None else LayerResult(done.entries, done.size, done.skipped)


def _no_progress(read: int) -> None:
    del read
