"""A process that has loaded everything and starts others by fork: each is new, and costs little.

It has no threads, no database and no open node, so that what it forks is like a process that has
only just begun. Run as `python -m support.warm`; talked to through `Warm`.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import pkgutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from support.cli import child_environment

_T = TypeVar("_T")
_PACKAGES: Final = (
    "snapcore", "snapcore_native", "snapcore_overlay", "snapcore_fuse", "snapcore_erofs",
)  # fmt: skip


class Killed(Exception):
    """The forked process was killed before it had anything to say."""


class Warm:
    """Calls functions in processes of their own; a context manager, for one thread."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment({"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}),
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def call(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call a function of a module in a new process, and return what it returns.

        Raises:
            Killed: by SIGKILL, as it may have been armed to be.
            AssertionError: it failed; the message is its traceback.
        """
        assert self._process.stdin
        assert self._process.stdout
        pickle.dump((function, arguments), self._process.stdin)
        self._process.stdin.flush()
        status, said = pickle.load(self._process.stdout)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            raise Killed
        value, failure = pickle.loads(said)
        assert not failure, failure
        result: _T = value
        return result


def main() -> None:
    """Fork a process for each call that is read, until there are no more."""
    _load()
    gc.freeze()
    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(_forked(function, arguments), sys.stdout.buffer)
        sys.stdout.flush()


def _forked(function: Callable[..., object], arguments: tuple[object, ...]) -> tuple[int, bytes]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _call(function, arguments, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return status, said


def _call(function: Callable[..., object], arguments: tuple[object, ...], writing: int) -> None:
    said: tuple[Any, str] = (None, "")
    try:
        # What it prints is not for our own reader.
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1):
            os.dup2(null, standard)
        said = (function(*arguments), "")
    except BaseException:  # noqa: BLE001 - said to who called
        said = (None, traceback.format_exc())
    finally:
        with open(writing, "wb") as pipe:
            pickle.dump(said, pipe)
        os._exit(0)


def _load() -> None:
    for name in _PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    importlib.import_module("snapcore.cli.__main__")


if __name__ == "__main__":
    main()
