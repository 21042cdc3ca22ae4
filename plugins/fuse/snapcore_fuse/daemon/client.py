"""The snapshotter's side of the daemon: starting it, and asking it, blocking."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from snapcore.errors import (
    ContractError,
    FailedPrecondition,
    SnapcoreError,
    Unavailable,
    from_os_error,
)
from snapcore.linux import mount_namespace
from snapcore.snapshots import Checkpoint, no_checkpoint
from snapcore_fuse.daemon.address import reached
from snapcore_fuse.daemon.messages import (
    MAX_LINE,
    Answer,
    Ask,
    Build,
    Done,
    Failed,
    Hello,
    Layer,
    LayerState,
    Measure,
    Measures,
    Outcome,
    Plan,
    Ready,
    Remove,
    Request,
    Resolve,
    Stop,
    decode_answer,
    encode,
    revive,
)
from snapcore_fuse.daemon.places import Places
from snapcore_fuse.settings import Settings

_POLL_SECONDS: Final = 0.1
_SHORT_SECONDS: Final = 10.0
_LONG_SECONDS: Final = 600.0
_START_SECONDS: Final = 60.0
_EXIT_BUSY: Final = 75
_MAX_SAID: Final = 2000
_A = TypeVar("_A")


class Daemon:
    """The daemon of one state root, started when it is wanted. For any number of threads.

    Args:
        places: the state root's.
        settings: what the operator chose; the daemon is told.
    """

    __slots__ = ("_places", "_settings")

    def __init__(self, places: Places, settings: Settings) -> None:
        self._places: Final = places
        self._settings: Final = settings

    def wanted(self) -> bool:
        """Tell whether there are lazy snapshots that need a daemon."""
        return os.path.exists(self._places.marker)

    def ensure(self) -> Ready:
        """Make sure that the daemon lives and that its mount can be seen from here.

        Raises:
            Unavailable: it cannot be started; the message says why.
            FailedPrecondition: its mount is in another mount namespace.
        """
        ready = self._greet() or self._started()
        if not self._visible() and ready.namespace == mount_namespace():
            # Somebody has unmounted it, and its process cannot mount a second time.
            self.stop()
            ready = self._started()
        if not self._visible():
            raise FailedPrecondition(
                f"the lazy layers of {self._places.root!r} are mounted in another mount namespace,"
                f" that of process {ready.pid}; use the state root from there"
            )
        return ready

    def stop(self) -> bool:
        """End the daemon, if there is one, and wait until it has unmounted; say if there was.

        Raises:
            Unavailable: it does not end.
        """
        ready = self._greet()
        if ready is None:
            return False
        process = os.pidfd_open(ready.pid)
        try:
            # It may be ending already.
            with suppress(Unavailable):
                self._call(Stop(), Done, _SHORT_SECONDS)
            if not select.select([process], [], [], _SHORT_SECONDS)[0]:
                raise Unavailable(f"the daemon of {self._places.root!r} does not end")
        finally:
            os.close(process)
        return True

    def dismiss(self) -> None:
        """End the daemon if it has nothing to serve, instead of when it notices.

        Whoever deletes the state root next finds nothing mounted in it.
        """
        ready = self._greet()
        if ready is None or ready.served:
            return
        with suppress(ProcessLookupError, Unavailable):
            process = os.pidfd_open(ready.pid)
            try:
                # It does not end if somebody else has begun with something meanwhile.
                if self._call(Remove(()), Done, _SHORT_SECONDS).ending:
                    select.select([process], [], [], _SHORT_SECONDS)
            finally:
                os.close(process)

    def plan(self, layer: Layer, checkpoint: Checkpoint) -> Outcome:
        """Find out whether a layer has an index that may be used.

        Raises:
            SnapcoreError: as the daemon found; Unavailable if it is gone.
        """
        return self._call(Plan(layer), Outcome, _LONG_SECONDS, checkpoint)

    def resolve(self, directory: str, layer: Layer, checkpoint: Checkpoint) -> Outcome:
        """Have a layer's index fetched into a snapshot's directory.

        Raises:
            SnapcoreError: as the daemon found; Unavailable if it is gone.
        """
        return self._call(Resolve(directory, layer), Outcome, _LONG_SECONDS, checkpoint)

    def build(self, request: Build, checkpoint: Checkpoint) -> Outcome:
        """Have a resolved layer made and served.

        Raises:
            SnapcoreError: as the daemon found; Unavailable if it is gone.
        """
        return self._call(request, Outcome, _LONG_SECONDS, checkpoint)

    def remove(self, *ids: int) -> None:
        """Have snapshots served no longer; nothing happens if there is no daemon."""
        try:
            self._call(Remove(ids), Done, _SHORT_SECONDS)
        except Unavailable:
            return

    def status(self, snapshot: int) -> LayerState:
        """Return how a lazy snapshot's layer fares.

        Raises:
            NotFound: it is not served.
            Unavailable: there is no daemon.
        """
        return self._call(Ask(snapshot), LayerState, _SHORT_SECONDS)

    def metrics(self) -> str:
        """Return what the daemon counts, as text for Prometheus.

        Raises:
            Unavailable: there is no daemon.
        """
        return self._call(Measure(), Measures, _SHORT_SECONDS).text

    def _greet(self) -> Ready | None:
        try:
            return self._call(Hello(self._settings), Ready, _SHORT_SECONDS)
        except Unavailable:
            return None

    def _visible(self) -> bool:
        try:
            return os.stat(self._places.mount).st_dev != os.stat(self._places.directory).st_dev
        except OSError:
            return False

    def _started(self) -> Ready:
        """Start a daemon, or wait for one that somebody else starts; return what it says."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            done = self._start(deadline - time.monotonic())
            if done.returncode not in (0, _EXIT_BUSY):
                said = done.stderr.decode(errors="replace").strip()[-_MAX_SAID:]
                raise Unavailable(f"the daemon of {self._places.root!r} cannot be started: {said}")
            ready = self._greet()
            if ready is not None:
                return ready
            # One is just beginning, or ending.
            time.sleep(_POLL_SECONDS)
        raise Unavailable(
            f"the daemon of {self._places.root!r} did not start within {_START_SECONDS:.0f} s;"
            f" see {self._places.log!r}"
        )

    def _start(self, patience: float) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "snapcore_fuse.daemon", self._places.root]
        try:
            return subprocess.run(
                command,
                input=msgspec.json.encode(self._settings),
                capture_output=True,
                timeout=patience,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(
                f"the daemon of {self._places.root!r} did not start in time;"
                f" see {self._places.log!r}"
            ) from error

    def _call(
        self,
        request: Request,
        kind: type[_A],
        patience: float,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> _A:
        answer = self._exchange(request, patience, checkpoint)
        if isinstance(answer, Failed):
            raise revive(answer)
        if not isinstance(answer, kind):
            raise ContractError(
                f"the daemon of {self._places.root!r} answered {type(answer).__name__} to"
                f" {type(request).__name__}; is it of another version? Stop it"
            )
        return answer

    def _exchange(self, request: Request, patience: float, checkpoint: Checkpoint) -> Answer:
        what = f"the daemon of {self._places.root!r}"
        deadline = time.monotonic() + patience
        data = bytearray()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.settimeout(_SHORT_SECONDS)
                with reached(self._places.socket) as address:
                    connection.connect(address)
                connection.sendall(encode(request))
                connection.settimeout(_POLL_SECONDS)
                while not data.endswith(b"\n"):
                    # What it raises hangs up, which is how the daemon is told to give up.
                    checkpoint()
                    if time.monotonic() > deadline:
                        raise Unavailable(f"{what} did not answer within {patience:.0f} s")
                    try:
                        part = connection.recv(MAX_LINE)
                    except TimeoutError:
                        continue
                    if not part:
                        raise Unavailable(f"{what} went away while it was asked")
                    data += part
            except OSError as error:
                raise _unreachable(error, what) from error
        return decode_answer(bytes(data))


def _unreachable(error: OSError, what: str) -> SnapcoreError:
    if isinstance(error, PermissionError):
        return from_os_error(error, what)
    return Unavailable(f"{what} cannot be reached: {error.strerror or error}")
