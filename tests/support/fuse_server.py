"""A process that serves tables on a mount, for tests: pyfuse3 has one session a process.

As a program it takes the mount point and obeys lines of JSON on its standard input; each is
answered by one line, the first one says that the mount is there.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import trio

from snapcore.errors import Unavailable
from snapcore_fuse.serve import Handlers, MountSettings, Served, sweep
from snapcore_fuse.serve.pyfuse import PyfuseTransport
from snapcore_fuse.tables import load, save
from support.lazy_tables import LazyLayer

_REQUESTS: Final = (
    *("lookup", "getattr", "readlink", "open", "read", "release", "flush", "access"),
    *("opendir", "readdirplus", "getxattr", "listxattr", "statfs"),
)
_REPO: Final = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """Return the environment of a program that imports what these tests import."""
    places = [_REPO, _REPO / "tests", *(_REPO / "plugins").iterdir()]
    return {**os.environ, "PYTHONPATH": ":".join(map(str, places))}


class FuseServer:
    """The process, as a test sees it."""

    def __init__(self, mountpoint: str, room: str, *launcher: str, shared: bool = True) -> None:
        """Start it and wait for the mount.

        Args:
            mountpoint: where.
            room: a directory for its tables.
            launcher: what the program is run by.
            shared: whether other users may enter.
        """
        self.mountpoint = mountpoint
        self._room = room
        settings = ["shared"] if shared else []
        self.process = subprocess.Popen(
            [*launcher, sys.executable, "-m", "support.fuse_server", mountpoint, *settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self._answer()

    def add(self, number: int, layer: LazyLayer, lowers: Sequence[LazyLayer] = ()) -> str:
        """Serve a layer as a snapshot; return its directory.

        Args:
            number: of the snapshot.
            layer: which.
            lowers: those that it has bytes of.
        """
        base = os.path.join(self._room, str(number))
        save(layer.table, f"{base}.table")
        known = {each.digest: each.stream for each in (layer, *lowers)}
        streams: list[str] = []
        for source in layer.table.sources:
            streams.append(f"{base}.{len(streams)}")
            Path(streams[-1]).write_bytes(known[source])
        self.tell("add", number, f"{base}.table", *streams)
        return os.path.join(self.mountpoint, str(number))

    def tell(self, *words: str | int) -> str:
        """Give an order and return the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def counts(self) -> Counter[str]:
        """Return how many requests of each kind came since this was asked last."""
        return Counter(json.loads(self.tell("counts")))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        return status

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the server ended with {self.process.wait(30)}"
        return line.rstrip("\n")


@contextmanager
def fuse_server(top: Path, *launcher: str, shared: bool = True) -> Iterator[FuseServer]:
    """Yield a server with a mount below a directory; nothing of it stays."""
    mountpoint, room = top / "mnt", top / "room"
    mountpoint.mkdir()
    room.mkdir()
    server = FuseServer(str(mountpoint), str(room), *launcher, shared=shared)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()
        sweep(str(mountpoint))


CROWD: Final = 32
"""With the fault "crowd" nobody gets anything before so many reads wait at the same time."""


class _Streams:
    """Bytes of a layer's sources; it can be told to fail."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._files = [open(path, "rb") for path in paths]  # noqa: SIM115 - open while served
        self.fault = ""
        self.waiting = 0
        self._crowded = trio.Event()

    async def read(self, source: int, start: int, size: int, file_end: int) -> bytes:
        if self.fault == "bug":
            raise ZeroDivisionError("a bug")
        if self.fault == "unavailable":
            raise Unavailable("the registry is gone")
        if self.fault == "short":
            size -= 1
        if self.fault in ("crowd", "stuck"):
            self.waiting += 1
            if self.fault == "crowd" and self.waiting == CROWD:
                self._crowded.set()
            await (self._crowded.wait() if self.fault == "crowd" else trio.sleep_forever())
        return os.pread(self._files[source].fileno(), size, start)


class _Program:
    def __init__(self, mountpoint: str, shared: bool) -> None:
        self._mountpoint = mountpoint
        self._trees: dict[int, Served] = {}
        self._streams: dict[int, _Streams] = {}
        self._counts: Counter[str] = Counter()
        self._transport = PyfuseTransport(MountSettings(shared=shared))

    async def run(self) -> None:
        handlers = Handlers(self._trees)
        for name in _REQUESTS:
            setattr(handlers, name, self._counting(name, getattr(handlers, name)))
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                started = trio.Event()
                nursery.start_soon(self._obey, started)
                nursery.start_soon(self._serve, handlers, started, nursery.cancel_scope)
                async for _ in signals:
                    nursery.cancel_scope.cancel()

    def _counting(
        self, name: str, method: Callable[..., Awaitable[object]]
    ) -> Callable[..., Awaitable[object]]:
        @functools.wraps(method)
        def counted(*args: object) -> Awaitable[object]:
            self._counts[name] += 1
            return method(*args)

        return counted

    async def _serve(
        self, handlers: Handlers, started: trio.Event, scope: trio.CancelScope
    ) -> None:
        await self._transport.run(handlers, self._mountpoint, started.set)
        scope.cancel()

    async def _obey(self, started: trio.Event) -> None:
        await started.wait()
        _say("ready")
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            order, *words = json.loads(line)
            _say(self._do(order, words))

    def _do(self, order: str, words: Sequence[str | int]) -> str:
        if order == "counts":
            counts, self._counts = json.dumps(self._counts), Counter()
            return counts
        number = int(words[0])
        if order == "add":
            table, *streams = map(str, words[1:])
            self._streams[number] = _Streams(streams)
            self._trees[number] = Served(load(table), self._streams[number].read)
        elif order == "remove":
            del self._trees[number]
            self._transport.forget(number)
        elif order == "fault":
            self._streams[number].fault = str(words[1])
        elif order == "waiting":
            return str(self._streams[number].waiting)
        return "done"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    trio.run(_Program(sys.argv[1], "shared" in sys.argv[2:]).run)
