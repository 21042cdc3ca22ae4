"""Sockets that the service manager listens at before we run (systemd, sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

from snapcore.errors import FailedPrecondition, InvalidArgument

_FIRST: Final = 3


def inherited(
    environment: Mapping[str, str], pid: int, path: str, first: int = _FIRST
) -> socket.socket | None:
    """Return the socket for a path that was handed to this process, None if none was handed.

    The path decides, not LISTEN_FDNAMES. Whatever else was handed over is closed.

    Args:
        environment: LISTEN_PID and LISTEN_FDS are looked at.
        pid: of this process.
        path: where the socket must listen.
        first: number of the first descriptor.

    Raises:
        InvalidArgument: LISTEN_FDS is no number.
        FailedPrecondition: sockets were handed over, but none that listens there.
    """
    # A parent that did not clear its own away means itself.
    if environment.get("LISTEN_PID") != str(pid):
        return None
    text = environment.get("LISTEN_FDS", "0")
    if not (text.isascii() and text.isdecimal()):
        raise InvalidArgument(f"LISTEN_FDS={text!r} is no number of sockets")
    found: socket.socket | None = None
    others: list[str] = []
    for descriptor in range(first, first + int(text)):
        handed = _socket(descriptor)
        if handed is None:
            others.append(f"descriptor {descriptor}, no socket")
        elif found is None and _listens_at(handed, path):
            found = handed
        else:
            others.append(repr(handed.getsockname()))
            handed.close()
    if found is None and others:
        raise FailedPrecondition(
            f"the service manager listens at {', '.join(others)}, not at {path!r}:"
            " ListenStream= and --address must name the same path"
        )
    return found


def _socket(descriptor: int) -> socket.socket | None:
    try:
        # Children of ours shall not keep it.
        os.set_inheritable(descriptor, False)
        return socket.socket(fileno=descriptor)
    except OSError:
        return None


def _listens_at(handed: socket.socket, path: str) -> bool:
    return (
        handed.family == socket.AF_UNIX
        and handed.type == socket.SOCK_STREAM
        and handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        and handed.getsockname() == path
    )
