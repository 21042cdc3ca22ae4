"""The lazy benchmark's own parts: the link really is slow, and the table says what was measured."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.lazy.__main__ import Start, table
from benchmarks.lazy.link import FAR, slow_link

_SERVER = f"""
import socket
listener = socket.create_server(("{FAR}", 8000))
print("ready", flush=True)
connection, _ = listener.accept()
connection.recv(1)
connection.sendall(bytes({1 << 20}))
connection.close()
"""


def test_the_table_compares_medians_with_the_first_side() -> None:
    starts = [
        Start("a", 10.0, 8.0, 5_000_000, 7, 1.0),
        Start("b", 1.0, 0.5, 500_000, 3, 1.0),
        Start("a", 30.0, 8.0, 5_000_000, 9, 1.0),
        Start("a", 20.0, 8.0, 5_000_000, 8, 1.0),
    ]
    rows = table(starts, 10_000_000).splitlines()[2:]
    assert rows == [
        "| a | 10.0, 30.0, 20.0 | 20.0 | 1.000 | 8.0 | 1.00 | 5.0 | 50.0% | 8 |",
        "| b | 1.0 | 1.0 | 0.050 | 0.5 | 1.00 | 0.5 | 5.0% | 3 |",
    ]


@pytest.mark.needs_root
def test_the_link_delays_and_counts(tmp_path: Path, census: None) -> None:
    with slow_link(tmp_path, megabits=80, milliseconds=40) as link:
        server = subprocess.Popen(
            link.inside(sys.executable, "-c", _SERVER), stdout=subprocess.PIPE, text=True
        )
        with server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            begin = time.monotonic()
            with socket.create_connection((FAR, 8000)) as connection:
                opened = time.monotonic()
                before = link.received()
                connection.sendall(b"x")
                got = sum(iter(lambda: len(connection.recv(1 << 16)), 0))
            taken = time.monotonic() - opened
        # Nothing is faster than the link; how much slower it is depends on the machine.
        assert opened - begin >= 0.04
        assert got == 1 << 20
        assert taken >= (1 << 23) / 80e6 + 0.04
        assert link.received() - before > 1 << 20
