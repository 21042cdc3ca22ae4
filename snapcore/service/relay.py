"""From a socket that somebody else has made to gRPC's own.

gRPC for Python listens at paths and takes no descriptors. To put a new socket in the place of the
given one would lose who has connected to that already, and leave nothing to connect to when this
process crashes; so bytes are handed on, both ways, by one thread.
"""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future
from typing import Final

import trio

_CHUNK_BYTES: Final = 64 << 10


class Relay:
    """Hands connections on, from `listener` to the socket at `path`; takes `listener` over."""

    def __init__(self, listener: socket.socket, path: str) -> None:
        self._listener: Final = listener
        self._path: Final = path
        self._running = Future[trio.lowlevel.TrioToken]()
        self._accepting = trio.CancelScope()
        self._all = trio.CancelScope()
        self._thread: Final = threading.Thread(
            target=trio.run, args=(self._run,), name="snapcore-relay"
        )
        self._started = False

    def start(self) -> None:
        """Take connections from now on, those that wait already too."""
        self._thread.start()
        self._running.result()
        self._started = True

    def refuse(self) -> None:
        """Take no new connections: they wait for whoever listens at the socket next."""
        if self._started:
            self._running.result().run_sync_soon(self._accepting.cancel)

    def close(self) -> None:
        """Hang up, and end."""
        if self._started:
            self._running.result().run_sync_soon(self._all.cancel)
            self._thread.join()
        self._listener.close()

    async def _run(self) -> None:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._listener))
        with self._all:
            async with listener, trio.open_nursery() as connections:
                # One that is never done, so that it lasts until it is closed.
                connections.start_soon(trio.sleep_forever)
                self._running.set_result(trio.lowlevel.current_trio_token())
                with self._accepting:
                    await trio.serve_listeners(
                        self._connection, [listener], handler_nursery=connections
                    )

    async def _connection(self, near: trio.SocketStream) -> None:
        try:
            async with (
                near,
                await trio.open_unix_socket(self._path) as far,
                trio.open_nursery() as ways,
            ):
                ways.start_soon(_copy, near, far)
                ways.start_soon(_copy, far, near)
        # Either end has gone in the middle: the other one is told by the hang-up.
        except* (trio.BrokenResourceError, OSError):
            pass


async def _copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
    while data := await source.receive_some(_CHUNK_BYTES):
        await target.send_all(data)
    await target.send_eof()
