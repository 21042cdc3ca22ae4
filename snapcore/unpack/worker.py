"""One worker: a forked child that applies one layer and reports over its socket."""

from __future__ import annotations

import os
import resource
import signal
import socket
from typing import Final

from snapcore.archive import (
    Destination,
    Expected,
    InOrder,
    LayerResult,
    Limits,
    Postponed,
    WhiteoutsFirst,
    apply_stream,
    feed_layer,
    settle,
    unpack_apart,
    unpack_layer,
)
from snapcore.errors import (
    ContractError,
    PermissionDenied,
    ResourceExhausted,
    SnapcoreError,
    from_os_error,
)
from snapcore.linux import set_parent_death_signal
from snapcore.oci import Digest, WhiteoutStyle
from snapcore.unpack import protocol

_ADDRESS_SPACE: Final = 2 << 30
_OPEN_FILES: Final = 4096
_REPORT_EVERY: Final = 1 << 20


class ParentSteps:
    """What the applier asks of the parent, over the job's socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reported = 0

    def mark_opaque(self, directory: int) -> None:
        """Have the parent mark a directory: that may need a capability which we gave up."""
        socket.send_fds(self._connection, [protocol.encode(protocol.Opaque())], [directory])
        answer = protocol.decode_marked(self._connection.recv(protocol.MAX_MESSAGE))
        if answer.error:
            raise PermissionDenied(
                f"cannot mark a directory opaque: {os.strerror(answer.error)}"
                " (overlay needs root, or userxattr in a user namespace)"
            )

    def progress(self, read: int) -> None:
        """Report bytes read, about once a mebibyte."""
        if read - self._reported >= _REPORT_EVERY:
            self._reported = read
            self._connection.send(protocol.encode(protocol.Read(read)))


def run(connection: socket.socket, job: protocol.Job, descriptors: list[int], parent: int) -> None:
    """Apply a layer in this process and send the outcome; never raises for a bad layer."""
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        return
    _limit(job.limits)
    pidfd = os.pidfd_open(os.getpid())
    socket.send_fds(connection, [protocol.encode(protocol.Hello())], [pidfd])
    os.close(pidfd)
    connection.send(protocol.encode(_outcome(connection, job, descriptors)))


def _outcome(
    connection: socket.socket, job: protocol.Job, descriptors: list[int]
) -> protocol.FromWorker:
    # The owner's lock is held by being inherited; nobody reads it here.
    _owner, *mine = descriptors
    try:
        return _do(job, mine, ParentSteps(connection))
    except (WhiteoutsFirst, InOrder):
        return protocol.Again()
    except SnapcoreError as error:
        return protocol.failure(error)
    except OSError as error:
        return protocol.failure(from_os_error(error, f"applying {job.digest}"))
    except MemoryError:
        return protocol.failure(ResourceExhausted(f"out of memory while applying {job.digest}"))
    except Exception as error:  # noqa: BLE001 - a worker must not die without a word
        return protocol.failure(
            ContractError(f"bug while applying {job.digest}: {type(error).__name__}: {error}")
        )


def _do(job: protocol.Job, descriptors: list[int], steps: ParentSteps) -> protocol.Done:
    match job:
        case protocol.Layer():
            return _layer(job, descriptors, steps)
        case protocol.Apart():
            return _apart(job, descriptors, steps)
        case protocol.Settle():
            return _settle(job, descriptors, steps)
        case protocol.Feed():
            return _feed(job, descriptors, steps)
        case protocol.Sink():
            return _sink(job, descriptors, steps)
        case protocol.Own():
            return _own(job, descriptors)


def _layer(job: protocol.Layer, descriptors: list[int], steps: ParentSteps) -> protocol.Done:
    blob, directory, *lower = descriptors
    style = WhiteoutStyle(job.style)
    destination = Destination(directory, lower[0] if lower else None, style, job.base)
    result = unpack_layer(
        blob,
        destination,
        _expected(job),
        job.limits,
        job.policy,
        steps,
        whiteouts_first=job.whiteouts_first,
    )
    return _done(result)


def _apart(job: protocol.Apart, descriptors: list[int], steps: ParentSteps) -> protocol.Done:
    blob, directory, notes = descriptors
    destination = Destination(directory, None, WhiteoutStyle(job.style), base=False)
    result, postponed = unpack_apart(
        blob, destination, _expected(job), job.limits, job.policy, steps
    )
    if not postponed.empty:
        with open(notes, "wb", closefd=False) as file:
            file.write(postponed.encode())
    return _done(result)


def _settle(job: protocol.Settle, descriptors: list[int], steps: ParentSteps) -> protocol.Done:
    notes, directory, lower = descriptors
    os.lseek(notes, 0, os.SEEK_SET)
    with open(notes, "rb", closefd=False) as file:
        postponed = Postponed.decode(file.read())
    destination = Destination(directory, lower, WhiteoutStyle(job.style), base=False)
    skipped = settle(postponed, destination, job.policy, steps)
    return protocol.Done(0, 0, dict(skipped))


def _feed(job: protocol.Feed, descriptors: list[int], steps: ParentSteps) -> protocol.Done:
    blob, *pipes = descriptors
    sinks = len(pipes) // job.passes
    passes = [pipes[start : start + sinks] for start in range(0, len(pipes), sinks)]
    return protocol.Done(0, feed_layer(blob, _expected(job), job.limits, steps, passes), {})


def _sink(job: protocol.Sink, descriptors: list[int], steps: ParentSteps) -> protocol.Done:
    directory, *rest = descriptors
    pipes, lower = rest[: job.passes], rest[job.passes :]
    style = WhiteoutStyle(job.style)
    destination = Destination(directory, lower[0] if lower else None, style, job.base)
    before = pipes[0] if job.passes > 1 else None
    return _done(apply_stream(pipes[-1], destination, job.limits, job.policy, steps, before=before))


def _own(job: protocol.Own, descriptors: list[int]) -> protocol.Done:
    # Here, since the other jobs need no plugins.
    from snapcore.snapshots import LayerLimits, apply_with_plugin

    directory, pipe = descriptors
    given = job.limits
    limits = LayerLimits(given.size, given.entries, given.depth, given.pax)
    result = apply_with_plugin(job.plugin, f"/proc/self/fd/{directory}", pipe, job.options, limits)
    while os.read(pipe, _REPORT_EVERY):
        # What it did not want to read: the feeder must come to the end.
        continue
    return protocol.Done(result.entries, result.size, {})


def _expected(job: protocol.Layer | protocol.Apart | protocol.Feed) -> Expected:
    return Expected(Digest.parse(job.digest), job.size, Digest.parse(job.diff_id))


def _done(result: LayerResult) -> protocol.Done:
    return protocol.Done(result.entries, result.size, dict(result.skipped))


def _limit(limits: Limits) -> None:
    for which, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, _ADDRESS_SPACE),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_FSIZE, limits.size),
    ):
        _, hard = resource.getrlimit(which)
        if hard == resource.RLIM_INFINITY or value <= hard:
            resource.setrlimit(which, (value, value))
    # Past RLIMIT_FSIZE the write then fails with EFBIG instead of killing the process.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
