"""The control socket: one request a connection; who hangs up cancels what it asked for."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from snapcore.errors import ContractError, SnapcoreError, from_os_error
from snapcore_fuse.daemon.address import reached
from snapcore_fuse.daemon.messages import (
    MAX_LINE,
    Answer,
    Request,
    decode_request,
    encode,
    failure,
)

_log = logging.getLogger(__name__)
_CREDENTIALS: Final = struct.Struct("3i")
_SECONDS_TO_ASK: Final = 10
_BACKLOG: Final = 64

Handle = Callable[[Request], Awaitable[Answer]]


def listen(path: str) -> socket.socket:
    """Make a control socket that only this user can speak to, over whatever has its name.

    Raises:
        SnapcoreError: it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with reached(path) as short:
            if os.path.lexists(short):
                os.unlink(short)
            mask = os.umask(0o177)
            try:
                listener.bind(short)
            finally:
                os.umask(mask)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise from_os_error(error, f"control socket {path!r}") from error
    return listener


class ControlServer:
    """Answers requests.

    Args:
        handle: does what is asked; what it raises of ours is answered.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def serve(self, listener: socket.socket) -> None:
        """Answer until cancelled; the listener is closed then."""
        accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        await trio.serve_listeners(self._connection, [accepting])

    async def _connection(self, stream: trio.SocketStream) -> None:
        try:
            async with stream:
                if self._is_stranger(stream):
                    return
                with trio.fail_after(_SECONDS_TO_ASK):
                    line = await _line(stream)
                answer = await self._answer(line, stream)
                if answer is not None:
                    await stream.send_all(encode(answer))
        except (trio.BrokenResourceError, trio.TooSlowError, ContractError) as error:
            _log.info("a request was given up: %r", error)

    @staticmethod
    def _is_stranger(stream: trio.SocketStream) -> bool:
        data = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, user, _ = _CREDENTIALS.unpack(bytes(data))
        return user not in (0, os.geteuid())

    async def _answer(self, line: bytes, stream: trio.SocketStream) -> Answer | None:
        """Do what is asked; None if who asked has hung up meanwhile."""
        answer: Answer | None = None
        async with trio.open_nursery() as nursery:

            async def hung_up() -> None:
                await stream.receive_some(1)
                nursery.cancel_scope.cancel()

            nursery.start_soon(hung_up)
            answer = await self._do(line)
            nursery.cancel_scope.cancel()
        return answer

    async def _do(self, line: bytes) -> Answer:
        try:
            return await self._handle(decode_request(line))
        except SnapcoreError as error:
            return failure(error)
        except Exception:  # noqa: BLE001 - see below
            # One request of one client must not end what all mounts live on.
            _log.exception("a request failed")
            return failure(ContractError("the daemon of lazy layers failed; see its log"))


async def _line(stream: trio.SocketStream) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n"):
        part = await stream.receive_some(MAX_LINE)
        if not part or len(data) + len(part) > MAX_LINE:
            raise ContractError("a request ends without a newline")
        data += part
    return bytes(data)
