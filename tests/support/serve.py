"""`snapcore serve` in a process of its own, as a service manager runs it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.cli import child_environment
from support.service import Client, connected

_HAND_OVER: Final = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
environment = {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execve(sys.executable, [sys.executable, "-m", "snapcore.cli", *sys.argv[2:]], environment)
"""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds.

    Attributes:
        memory: resident bytes.
        files: open file descriptors.
        sockets: those of them that are sockets.
        threads: threads.
    """

    memory: int
    files: int
    sockets: int
    threads: int


class Service:
    """A server in a process of its own."""

    def __init__(self, root: Path, process: subprocess.Popen[str], manager: socket.socket) -> None:
        self.root, self.process, self._manager = root, process, manager
        self.status = ""

    @property
    def socket(self) -> Path:
        return self.root.parent / "run" / "socket"

    def told(self) -> list[str]:
        """Return the next message to the service manager."""
        return self._manager.recv(4096).decode().splitlines()

    def footprint(self) -> Footprint:
        """Return what the process holds just now."""
        process = f"/proc/{self.process.pid}"
        with open(f"{process}/status", encoding="ascii") as status:
            fields = dict(line.split(":", 1) for line in status)
        files = []
        for name in os.listdir(f"{process}/fd"):
            with suppress(FileNotFoundError):
                files.append(os.readlink(f"{process}/fd/{name}"))
        return Footprint(
            memory=int(fields["VmRSS"].split()[0]) << 10,
            files=len(files),
            sockets=sum(name.startswith("socket:") for name in files),
            threads=len(os.listdir(f"{process}/task")),
        )

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it by a signal; return its exit code and what it wrote to stderr."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@contextmanager
def running(
    tmp_path: Path,
    *flags: str,
    more: Sequence[str] = (),
    listener: socket.socket | None = None,
    by: Sequence[str] = (),
) -> Iterator[tuple[Service, Client]]:
    """Run it during a `with` block.

    Args:
        tmp_path: its root and its socket lie below.
        flags: before the verb.
        more: after it.
        listener: handed to it as a service manager does.
        by: a program that runs it, with arguments.
    """
    root = tmp_path / "root"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(60)
        manager.bind(str(tmp_path / "manager"))
        handed = () if listener is None else (listener.fileno(),)
        start = ("-c", _HAND_OVER, *map(str, handed)) if handed else ("-m", "snapcore.cli")
        command = (*by, sys.executable, *start, "--root", str(root), *flags)
        with subprocess.Popen(
            [*command, "serve", "--address", f"unix://{tmp_path}/run/socket", *more],
            env=child_environment({"NOTIFY_SOCKET": str(tmp_path / "manager")}),
            stderr=subprocess.PIPE,
            pass_fds=handed,
            text=True,
        ) as process:
            try:
                service = Service(root, process, manager)
                ready, service.status = service.told()
                assert (ready, service.status[:15]) == ("READY=1", "STATUS=serving ")
                with connected(service.socket) as client:
                    yield service, client
            finally:
                process.kill()
