"""What workers do with layers, as calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from snapcore.archive import ApplyPolicy, Destination, Expected, LayerResult, Limits
from snapcore.unpack import protocol
from snapcore.unpack.pool import WorkerPool


@dataclass(frozen=True, slots=True)
class LayerJob:
    """One layer for a worker.

    Attributes:
        blob: open descriptor of the compressed layer, at its beginning.
        destination: where it goes.
        expected: what it must turn out to be.
        limits: its budgets.
        policy: what happens to owners and devices.
    """

    blob: int
    destination: Destination
    expected: Expected
    limits: Limits
    policy: ApplyPolicy


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
    lower = () if destination.lower is None else (destination.lower,)
    return _result(await pool.run(message, (job.blob, destination.directory, *lower), progress))


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


def _result(done: protocol.Done | None) -> LayerResult | None:
    return None if done is None else LayerResult(done.entries, done.size, done.skipped)


def _no_progress(read: int) -> None:
    del read
