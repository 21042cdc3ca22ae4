"""Another process that has the same snapshotter open, and makes the calls it is told to.

`Peer` is the one who tells; `main` is run by the other (`python -m snapcore.conformance.peer`).
Both talk in lines of JSON.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import IO, Final, Self

import msgspec

from snapcore.conformance.history import Call, Event
from snapcore.errors import Unavailable
from snapcore.faults import arm
from snapcore.snapshots import OptionValue, Snapshotter, open_snapshotter

_STARTED: Final = b"open\n"


class Place(msgspec.Struct, frozen=True):
    """Which snapshotter the other process opens.

    Attributes:
        name: of the plugin.
        root: its state root.
        options: what it is opened with.
    """

    name: str
    root: str
    options: dict[str, OptionValue]


class Order(msgspec.Struct, frozen=True):
    """One call to make.

    Attributes:
        call: the call.
        points: file in which to count, from now on, the points of `snapcore.faults`; "" for none.
        die_at: the process kills itself at this point; 0 for never.
    """

    call: Call
    points: str = ""
    die_at: int = 0


class Peer:
    """Another process on the state of a snapshotter; a context manager.

    Args:
        snapshotter: what it opens too; an installed plugin.
    """

    def __init__(self, snapshotter: Snapshotter) -> None:
        self._process: Final = subprocess.Popen(
            [sys.executable, "-m", "snapcore.conformance.peer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        place = Place(snapshotter.name, snapshotter.root, dict(snapshotter.options))
        self._send(msgspec.json.encode(place))

    def wait_until_open(self) -> None:
        """Wait until it has opened the snapshotter.

        Raises:
            Unavailable: it could not.
        """
        if self._pipe(self._process.stdout).readline() != _STARTED:
            raise Unavailable("another process could not open the snapshotter")

    def begin(self, call: Call, *, points: str = "", die_at: int = 0) -> None:
        """Have it make a call, as `Order` says; `end` waits for the outcome."""
        self._send(msgspec.json.encode(Order(call, points, die_at)))

    def end(self) -> Event | None:
        """Return how the call ended, None if the process has died of it."""
        line = self._pipe(self._process.stdout).readline()
        return msgspec.json.decode(line, type=Event) if line else None

    def killed(self) -> bool:
        """Wait until the process has ended, and tell whether SIGKILL has ended it."""
        return self._process.wait() == -signal.SIGKILL

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            # It may be what was waited for in vain.
            self._process.kill()
        with suppress(BrokenPipeError):
            self._pipe(self._process.stdin).close()
        self._process.wait()
        self._pipe(self._process.stdout).close()

    def _send(self, line: bytes) -> None:
        stream = self._pipe(self._process.stdin)
        stream.write(line + b"\n")
        stream.flush()

    def _pipe(self, stream: IO[bytes] | None) -> IO[bytes]:
        assert stream is not None
        return stream


def main() -> None:
    """Open a snapshotter and make calls until there are no more orders."""
    orders, answers = sys.stdin.buffer, sys.stdout.buffer
    place = msgspec.json.decode(orders.readline(), type=Place)
    with open_snapshotter(place.name, place.root, options=place.options) as snapshotter:
        answers.write(_STARTED)
        answers.flush()
        for line in orders:
            order = msgspec.json.decode(line, type=Order)
            if order.points:
                arm(order.die_at, order.points)
            event = happened(snapshotter, order.call)
            answers.write(msgspec.json.encode(event) + b"\n")
            answers.flush()


def happened(snapshotter: Snapshotter, call: Call) -> Event:
    """Make a call and return how it went."""
    begun = time.monotonic_ns()
    outcome = call.make(snapshotter)
    return Event(call, outcome, begun, time.monotonic_ns())


if __name__ == "__main__":
    main()
