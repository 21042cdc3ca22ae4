"""The parent's side of the worker processes."""

from __future__ import annotations

import array
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import trio

from snapcore.errors import ContractError, ResourceExhausted, Unavailable
from snapcore.oci import WhiteoutStyle
from snapcore.unpack import protocol


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

    async def run(
        self,
        job: protocol.Job,
        descriptors: Sequence[int],
        progress: Callable[[int], None],
    ) -> protocol.Done | None:
        """Do a job in a worker; None if it must be done again in another way.

        Cancelling kills the worker and waits until it is gone, so that the caller can remove
        the target.

        Args:
            job: what to do.
            descriptors: what it needs; see the job's class.
            progress: told the compressed bytes that have been read.

        Raises:
            RefusedInput, DigestMismatch, ResourceExhausted, PermissionDenied, DataLoss: as the
                functions of `archive`.
            Unavailable: the zygote is gone.
        """
        with self.begin(job, descriptors) as running:
            return await running.outcome(progress)

    @contextmanager
    def begin(self, job: protocol.Job, descriptors: Sequence[int]) -> Iterator[Running]:
        """Start a worker; inside the block its `outcome` is awaited, once.

        Args:
            job: what to do.
            descriptors: what it needs; they may be closed as soon as the block is entered.

        Raises:
            Unavailable: the zygote is gone.
        """
        self.start()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                self._send(job, [theirs.fileno(), self._owner_lock, *descriptors])
            yield Running(trio.socket.from_stdlib_socket(ours), job)

    def _send(self, job: protocol.Job, descriptors: Sequence[int]) -> None:
        if self._control is None:
            raise Unavailable("the pool of worker processes is closed")
        try:
            socket.send_fds(self._control, [protocol.encode(job)], descriptors)
        except OSError as error:
            raise Unavailable(f"the process that forks workers is gone: {error}") from error


class Running:
    """A worker that was started."""

    def __init__(self, connection: trio.socket.SocketType, job: protocol.Job) -> None:
        self._connection: Final = connection
        self._job: Final = job

    async def outcome(self, progress: Callable[[int], None]) -> protocol.Done | None:
        """Wait until the worker has ended; see `WorkerPool.run`."""
        return await _follow(self._connection, self._job, progress)


async def _follow(
    connection: trio.socket.SocketType, job: protocol.Job, progress: Callable[[int], None]
) -> protocol.Done | None:
    worker = _Worker()
    try:
        while True:
            message, descriptors = await _receive(connection)
            if isinstance(message, protocol.Read):
                progress(message.count)
            elif isinstance(message, protocol.Opaque):
                await _mark_opaque(connection, _style(job, descriptors), descriptors)
            elif isinstance(message, protocol.Hello):
                worker.pidfd = _one(descriptors)
            elif isinstance(message, protocol.Done):
                return message
            elif isinstance(message, protocol.Again):
                return None
            elif isinstance(message, protocol.Failed):
                raise protocol.revive(message)
            else:
                raise ResourceExhausted(
                    f"the worker that applied {job.digest} was killed (out of memory, or by hand)"
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
    connection: trio.socket.SocketType, style: WhiteoutStyle, descriptors: Sequence[int]
) -> None:
    directory = _one(descriptors)
    error = 0
    try:
        os.setxattr(directory, style.opaque_xattr, b"y")
    except OSError as failure:
        error = failure.errno or -1
    finally:
        os.close(directory)
    await connection.send(protocol.encode(protocol.Marked(error)))


def _style(job: protocol.Job, descriptors: Sequence[int]) -> WhiteoutStyle:
    if isinstance(job, protocol.Feed | protocol.Own):
        _close(descriptors)
        raise ContractError(f"worker process asks for an opaque mark in a {type(job).__name__} job")
    return WhiteoutStyle(job.style)


def _one(descriptors: Sequence[int]) -> int:
    if len(descriptors) != 1:
        _close(descriptors)
        raise ContractError(f"worker process sent {len(descriptors)} descriptors instead of one")
    return descriptors[0]


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
