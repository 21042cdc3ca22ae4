"""The parent's side of the worker processes."""

from __future__ import annotations

import array
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

from snapcore.archive import ApplyPolicy, Destination, Expected, LayerResult, Limits
from snapcore.errors import ContractError, ResourceExhausted, Unavailable
from snapcore.unpack import protocol


@dataclass(frozen=True, slots=True)
class LayerJob:
    """One layer for a worker.

    Attributes:
        blob: open descriptor of the compressed layer, at its beginning.
        destination: where it goes.
        expected: what it must turn out to be.
        limits: its budgets.
        policy: what happens to owners and devices.
        whiteouts_first: read it twice, deletions first.
    """

    blob: int
    destination: Destination
    expected: Expected
    limits: Limits
    policy: ApplyPolicy
    whiteouts_first: bool = False


class WorkerPool:
    """Starts workers from one zygote process; as many at a time as the caller asks for.

    The zygote is started on the first job, by exec, so that threads and databases of this
    process are never forked.
    """

    def __init__(self, owner_lock: int) -> None:
        """Make a pool whose workers inherit `owner_lock`, a locked descriptor (see `Owner`)."""
        self._owner_lock: Final = owner_lock
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start the zygote, if it does not run yet; worth doing while a network call waits."""
        if self._control is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._zygote = subprocess.Popen(
                [sys.executable, "-m", "snapcore.unpack.zygote", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # A terminal's Ctrl-C is for us: workers end when we kill them.
                start_new_session=True,
            )
        self._control = ours

    def close(self) -> None:
        """End the zygote and, with it, every worker."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._zygote is not None:
            self._zygote.wait()
            self._zygote = None

    async def apply(self, job: LayerJob, progress: Callable[[int], None]) -> LayerResult | None:
        """Apply a layer in a worker; None if it must be done again, whiteouts first.

        Cancelling kills the worker and waits until it is gone, so that the caller can remove
        the target.

        Raises:
            RefusedInput, DigestMismatch, ResourceExhausted, PermissionDenied, DataLoss: as
                `archive.unpack_layer`.
            Unavailable: the zygote is gone.
        """
        self.start()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                self._send(job, theirs)
            return await _follow(trio.socket.from_stdlib_socket(ours), job, progress)

    def _send(self, job: LayerJob, theirs: socket.socket) -> None:
        destination, expected = job.destination, job.expected
        descriptors = [theirs.fileno(), job.blob, destination.directory, self._owner_lock]
        if destination.lower is not None:
            descriptors.append(destination.lower)
        message = protocol.Job(
            digest=str(expected.digest),
            size=expected.size,
            diff_id=str(expected.diff_id),
            style=destination.style.value,
            base=destination.base,
            has_lower=destination.lower is not None,
            whiteouts_first=job.whiteouts_first,
            limits=job.limits,
            policy=job.policy,
        )
        if self._control is None:
            raise Unavailable("the pool of worker processes is closed")
        try:
            socket.send_fds(self._control, [protocol.encode(message)], descriptors)
        except OSError as error:
            raise Unavailable(f"the process that forks workers is gone: {error}") from error


async def _follow(
    connection: trio.socket.SocketType, job: LayerJob, progress: Callable[[int], None]
) -> LayerResult | None:
    worker = _Worker()
    try:
        while True:
            message, descriptors = await _receive(connection)
            if isinstance(message, protocol.Read):
                progress(message.count)
            elif isinstance(message, protocol.Opaque):
                await _mark_opaque(connection, job, descriptors)
            elif isinstance(message, protocol.Hello):
                worker.pidfd = _one(descriptors)
            elif isinstance(message, protocol.Done):
                return LayerResult(message.entries, message.size, message.skipped)
            elif isinstance(message, protocol.Again):
                return None
            elif isinstance(message, protocol.Failed):
                raise protocol.revive(message)
            else:
                raise ResourceExhausted(
                    f"the worker that applied {job.expected.digest} was killed"
                    " (out of memory, or by hand)"
                )
    finally:
        with trio.CancelScope(shield=True):
            await worker.end(connection)


class _Worker:
    """A running worker, known by its pidfd once it has said hello."""

    def __init__(self) -> None:
        self.pidfd = -1

    async def end(self, connection: trio.socket.SocketType) -> None:
        """Kill the worker if it still runs, and wait until its end of the socket is closed."""
        # One that has not even said hello fails at its first message instead.
        connection.shutdown(socket.SHUT_RD)
        self._kill()
        while True:
            message, descriptors = await _receive(connection)
            if message is None:
                break
            if isinstance(message, protocol.Hello) and self.pidfd < 0:
                self.pidfd = _one(descriptors)
                self._kill()
            else:
                _close(descriptors)
        if self.pidfd >= 0:
            os.close(self.pidfd)

    def _kill(self) -> None:
        if self.pidfd >= 0:
            # It may have ended by itself just now.
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


async def _receive(
    connection: trio.socket.SocketType,
) -> tuple[protocol.FromWorker | None, list[int]]:
    space = socket.CMSG_SPACE(protocol.MAX_DESCRIPTORS * 4)
    try:
        data, ancillary, _, _ = await connection.recvmsg(
            protocol.MAX_MESSAGE, space, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        return None, []
    descriptors: list[int] = []
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            received = array.array("i")
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
            descriptors.extend(received)
    return (protocol.decode_from_worker(data) if data else None), descriptors


async def _mark_opaque(
    connection: trio.socket.SocketType, job: LayerJob, descriptors: Sequence[int]
) -> None:
    directory = _one(descriptors)
    error = 0
    try:
        os.setxattr(directory, job.destination.style.opaque_xattr, b"y")
    except OSError as failure:
        error = failure.errno or -1
    finally:
        os.close(directory)
    await connection.send(protocol.encode(protocol.Marked(error)))


def _one(descriptors: Sequence[int]) -> int:
    if len(descriptors) != 1:
        _close(descriptors)
        raise ContractError(f"worker process sent {len(descriptors)} descriptors instead of one")
    return descriptors[0]


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
