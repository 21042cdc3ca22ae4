"""The process of a daemon: alone at its root, detached, ready, and gone without a trace."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Final

import trio

from snapcore.locks import FileLock
from snapcore_fuse.daemon.control import ControlServer, listen
from snapcore_fuse.daemon.layers import Layers
from snapcore_fuse.daemon.places import Places
from snapcore_fuse.daemon.service import Service
from snapcore_fuse.daemon.stock import Stock
from snapcore_fuse.serve import Handlers, Served, sweep
from snapcore_fuse.serve.pyfuse import PyfuseTransport
from snapcore_fuse.settings import Settings

_log = logging.getLogger(__name__)
_OK: Final = "ok"
BUSY: Final = "busy"
"""There is a daemon of that root, or one is just ending."""


def start(root: str, settings: Settings, environment: Mapping[str, str]) -> str:
    """Start the daemon of a state root, detached from this process, unless there is one.

    To be called by a process without threads.

    Args:
        root: the snapshotter's state root, which exists.
        settings: what the operator chose.
        environment: proxies, and what credential helpers run with.

    Returns:
        "" once it answers; else why it does not, `BUSY` if there is one, or was just now.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        os.close(reading)
        os._exit(_detached(Places(os.path.abspath(root)), settings, environment, writing))
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    return "" if said == _OK else said or "it ended at once; see its log"


def _detached(
    places: Places, settings: Settings, environment: Mapping[str, str], ready: int
) -> int:
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    lock = FileLock(places.lock)
    try:
        os.makedirs(places.directory, mode=0o700, exist_ok=True)
        if not lock.try_acquire():
            os.write(ready, BUSY.encode())
            return 1
        _redirect(places.log)
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        run(places, settings, environment, lambda: _tell(ready, _OK))
    except Exception as error:  # noqa: BLE001 - whatever it is, who waits must be told
        _log.exception("the daemon ends")
        _tell(ready, str(error))
        return 1
    finally:
        lock.release()
    return 0


def _redirect(log: str) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for target, source in ((0, null), (1, written), (2, written)):
        os.dup2(source, target)
    os.close(null)
    os.close(written)


def _tell(ready: int, text: str) -> None:
    """Tell who waits for us, once; nobody does later on."""
    with suppress(OSError):
        os.write(ready, text.encode())
        os.close(ready)


def run(
    places: Places,
    settings: Settings,
    environment: Mapping[str, str],
    ready: Callable[[], None],
) -> None:
    """Serve until nothing lazy is left, or a signal or request says to end.

    Nothing stays but what the next daemon goes on with: records of layers, and the cache.

    Args:
        places: the state root's; its lock is held.
        settings: what the operator chose.
        environment: proxies, and what credential helpers run with.
        ready: called once requests are answered and the mount is there.

    Raises:
        SnapcoreError: something cannot be opened or mounted.
    """
    with ExitStack() as stack:
        # A dead mount is there and cannot be looked at.
        with suppress(FileExistsError):
            os.mkdir(places.mount, 0o755)
        # Whoever mounted it had our lock, and is dead. What lies on top of it, such as an overlay,
        # is its owner's, and fails from now on.
        sweep(places.mount)
        stack.callback(_take_away, places.mount)
        listener = stack.enter_context(listen(places.socket))
        stack.callback(os.unlink, places.socket)
        trio.run(_serve, places, settings, environment, listener, ready)


def _take_away(mountpoint: str) -> None:
    with suppress(OSError):
        os.rmdir(mountpoint)


async def _serve(
    places: Places,
    settings: Settings,
    environment: Mapping[str, str],
    listener: socket.socket,
    ready: Callable[[], None],
) -> None:
    with ExitStack() as stack:
        stock = stack.enter_context(Stock(places, settings, environment))
        trees: dict[int, Served] = {}
        transport = PyfuseTransport()
        mounted = trio.Event()
        async with trio.open_nursery() as nursery:
            layers = Layers(places, stock, trees, transport.forget, nursery)
            layers.load()
            service = Service(layers)
            nursery.start_soon(transport.run, Handlers(trees), places.mount, mounted.set)
            await mounted.wait()
            nursery.start_soon(ControlServer(service.handle).serve, listener)
            nursery.start_soon(_signals, service.stop)
            ready()
            await service.until_idle()
            nursery.cancel_scope.cancel()


async def _signals(stop: Callable[[], None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async for _ in received:
            stop()
