"""A containerd of one's own, and `snapcore serve` as its snapshotter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PLUGIN: Final = "snapcore"
"""What containerd calls its snapshotter, whichever of ours is served."""
PATIENCE_SECONDS: Final = 60.0
_CONFIG: Final = """version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]

[proxy_plugins.{plugin}]
type = "snapshot"
address = "{address}"
"""


class Failed(Exception):
    """A command failed; the message has what it said."""


def run_quietly(command: Sequence[str]) -> str:
    """Run a command and return what it prints.

    Raises:
        Failed: its exit code is not 0.
    """
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@dataclass
class Daemons:
    """Both processes, below one directory.

    Attributes:
        place: the directory.
        backend: the snapshotter that is served.
        run: runs a command and returns what it prints.
        settings: our configuration file.
    """

    place: Path
    backend: str
    run: Callable[[Sequence[str]], str] = run_quietly
    settings: str = ""
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """Our state root."""
        return self.place / "snapcore"

    def ctr(self, *arguments: str) -> str:
        """Ask containerd for something."""
        return self.run(("ctr", "--address", self.socket, *arguments))

    def snapcore(self, *arguments: str) -> str:
        """Run our command line on the root that is served."""
        program = (sys.executable, "-m", "snapcore.cli")
        flags = ("--root", str(self.root), "--snapshotter", self.backend)
        return self.run((*program, *flags, *arguments))

    def start_service(self, *flags: str) -> None:
        """Start `snapcore serve`, with more flags, and wait until it answers."""
        settings = self.place / "snapcore.toml"
        settings.write_text(self.settings)
        self._start(
            "service",
            *(sys.executable, "-m", "snapcore.cli", "--config", str(settings)),
            *("--root", str(self.root), "--snapshotter", self.backend, *flags),
            *("--log-level", "info", "serve", "--address", self.address),
        )
        self._until("service", lambda: "snapcore: serving " in self.log("service"))
        if "containerd" in self._running:
            # Its client waits a little before it tries a broken connection again.
            self._until(
                "containerd", lambda: self._answers("snapshots", "--snapshotter", PLUGIN, "ls")
            )

    def start_containerd(self, config: str = "") -> None:
        """Start containerd, and wait until it answers.

        Args:
            config: its configuration; "" for the one that has our snapshotter and no CRI.
        """
        path = self.place / "config.toml"
        path.write_text(config or _CONFIG.format(plugin=PLUGIN, address=self.address))
        self._start(
            "containerd",
            *("containerd", "--config", str(path), "--address", self.socket),
            *("--root", str(self.place / "root"), "--state", str(self.place / "state")),
            *("--log-level", "warn"),
        )
        self._until("containerd", lambda: self._answers("version"))

    def kill(self, name: str) -> None:
        """End `service` or `containerd` as a crash does."""
        self._end(name, signal.SIGKILL)

    def stop(self) -> None:
        """End both in good order, and the containers with them."""
        if "containerd" in self._running:
            with suppress(Failed):
                ctr = ("ctr", "--address", self.socket, "tasks")
                for task in run_quietly((*ctr, "ls", "--quiet")).split():
                    run_quietly((*ctr, "rm", "--force", task))
        try:
            self.end("containerd")
        finally:
            self.end("service")

    def end(self, name: str) -> None:
        """End `service` or `containerd` in good order.

        Raises:
            Failed: it does not end; it was killed.
        """
        self._end(name, signal.SIGTERM)

    def log(self, name: str) -> str:
        """Return what one of them has said."""
        return (self.place / f"{name}.log").read_text(errors="replace")

    def _end(self, name: str, number: int) -> None:
        process = self._running.pop(name, None)
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Failed(f"{name} does not end: {self.log(name)}") from None

    def _answers(self, *arguments: str) -> bool:
        command = ("ctr", "--address", self.socket, *arguments)
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    @property
    def socket(self) -> str:
        """Where containerd listens."""
        return str(self.place / "containerd.sock")

    @property
    def address(self) -> str:
        """Where `snapcore serve` listens."""
        return str(self.place / "service" / "socket")

    def _start(self, name: str, *command: str) -> None:
        # Not under NOTIFY_SOCKET of whoever runs this.
        environment = {k: v for k, v in os.environ.items() if k != "NOTIFY_SOCKET"}
        with (self.place / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    def _until(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not ready():
            if self._running[name].poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{name} does not start: {self.log(name)}")
            time.sleep(0.05)


@contextmanager
def containerd_node(
    place: Path,
    backend: str,
    run: Callable[[Sequence[str]], str] = run_quietly,
    settings: str = "",
) -> Iterator[Daemons]:
    """Run both below a directory for the duration of a `with` block.

    Args:
        place: an existing directory, with a short path (sockets lie in it).
        backend: the snapshotter to serve.
        run: runs the commands that are asked for.
        settings: our configuration file.
    """
    daemons = Daemons(place, backend, run, settings)
    try:
        daemons.start_service()
        daemons.start_containerd()
        yield daemons
    finally:
        daemons.stop()


@contextmanager
def containerd_alone(place: Path) -> Iterator[Daemons]:
    """Run containerd, without any of our snapshotters, for the duration of a `with` block.

    Args:
        place: an existing directory, with a short path (sockets lie in it).
    """
    daemons = Daemons(place, "")
    try:
        daemons.start_containerd()
        yield daemons
    finally:
        daemons.stop()
