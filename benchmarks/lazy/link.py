"""A slow link to a network namespace of its own, and what went over it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.programs import Failed, run, stop, undisturbed

NEAR: Final = "10.213.77.1"
FAR: Final = "10.213.77.2"
_SPACE: Final = "snapcore-lazy"
_DEVICES: Final = ("sclazy0", "sclazy1")
_QUEUE_BYTES: Final = 512_000
_SOURCE: Final = Path(__file__).with_name("link.c")


@dataclass(frozen=True, slots=True)
class Link:
    """A link that is up.

    Attributes:
        megabits: per second, each way.
        milliseconds: there and back.
    """

    megabits: float
    milliseconds: float

    def inside(self, *command: str) -> tuple[str, ...]:
        """Return the command that runs another one at the far end."""
        return ("ip", "netns", "exec", _SPACE, *command)

    def received(self) -> int:
        """Return the bytes of IP packets that have come to the near end so far."""
        counter = Path("/sys/class/net", _DEVICES[0], "statistics/rx_bytes")
        return int(counter.read_text())


@contextmanager
def slow_link(work: Path, megabits: float, milliseconds: float) -> Iterator[Link]:
    """Have a link for the duration of a `with` block.

    Args:
        work: directory for the program that is compiled.
        megabits: per second, each way.
        milliseconds: there and back.

    Raises:
        Failed: a program is missing or fails, or a link of an earlier run is still there.
    """
    program = work / "link"
    run("gcc", "-O2", "-Wall", "-Werror", "-o", str(program), str(_SOURCE))
    run("ip", "netns", "add", _SPACE)
    try:
        rate, delay = str(int(megabits * 1e6)), str(int(milliseconds * 500))
        space = f"/run/netns/{_SPACE}"
        carrier = subprocess.Popen(
            (str(program), space, *_DEVICES, rate, delay, str(_QUEUE_BYTES)),
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            assert carrier.stdout is not None
            if carrier.stdout.readline() != b"ready\n":
                raise Failed("the link does not come up; it says why above")
            link = Link(megabits, milliseconds)
            _address((), _DEVICES[0], NEAR, FAR)
            _address(link.inside(), _DEVICES[1], FAR, NEAR)
            run(*link.inside("ip", "link", "set", "lo", "up"))
            yield link
        finally:
            with undisturbed():
                stop(carrier, signal.SIGTERM)
                if carrier.stdout is not None:
                    carrier.stdout.close()
    finally:
        with undisturbed():
            run("ip", "netns", "delete", _SPACE)


def _address(prefix: tuple[str, ...], device: str, here: str, there: str) -> None:
    run(*prefix, "ip", "address", "add", here, "peer", there, "dev", device)
    run(*prefix, "ip", "link", "set", device, "mtu", "1500", "up")
