"""systemd's readiness protocol (sd_notify(3)): the service manager is told when calls are taken."""

from __future__ import annotations

import logging
import socket
from typing import Final

from snapcore.errors import Unavailable

_log: Final = logging.getLogger("snapcore.service")


def notify(address: str, *states: str) -> None:
    """Tell the service manager of states, such as `READY=1`; nothing where there is none.

    Args:
        address: what it has set NOTIFY_SOCKET to, "" for no service manager.
        states: sent as one message.

    Raises:
        Unavailable: it does not take the message, and would wait for it.
    """
    if not address:
        return
    # An abstract socket is written with @ (sd_notify(3)).
    place = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        try:
            client.connect(place)
            client.sendall("\n".join(states).encode())
        except OSError as error:
            raise Unavailable(f"the service manager at {address!r} does not answer") from error


def tell(address: str, *states: str) -> None:
    """Tell the service manager of states as `notify` does, where it may as well not hear them."""
    try:
        notify(address, *states)
    except Unavailable as error:
        _log.warning("%s", error)
