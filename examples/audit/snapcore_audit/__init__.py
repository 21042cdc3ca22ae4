"""A wrapper around any snapshotter that writes down each call that changes something."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from snapcore.errors import from_os_error
from snapcore.snapshots import Info, Mounts, Options, hookimpl

_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class Audit:
    """The wrapper of one opened snapshotter.

    Args:
        name: the snapshotter's name.
        path: the file of JSON lines to append to, made with mode 0600.
    """

    def __init__(self, name: str, path: str) -> None:
        self._name: Final = name
        self._path: Final = path

    @hookimpl(wrapper=True)
    def prepare(self, key: str, parent: str) -> Generator[None, Mounts, Mounts]:
        """Write down who makes a writable snapshot."""
        with self._call("prepare", key=key, parent=parent):
            return (yield)

    @hookimpl(wrapper=True)
    def view(self, key: str, parent: str) -> Generator[None, Mounts, Mounts]:
        """Write down who makes a snapshot to read."""
        with self._call("view", key=key, parent=parent):
            return (yield)

    @hookimpl(wrapper=True)
    def commit(self, name: str, key: str, parent: str) -> Generator[None, Info, Info]:
        """Write down who commits."""
        with self._call("commit", key=key, name=name, parent=parent):
            return (yield)

    @hookimpl(wrapper=True)
    def update(self, info: Info) -> Generator[None, Info, Info]:
        """Write down who changes labels."""
        with self._call("update", key=info.name):
            return (yield)

    @hookimpl(wrapper=True)
    def remove(self, key: str) -> Generator[None, Info, Info]:
        """Write down who removes."""
        with self._call("remove", key=key):
            return (yield)

    @contextmanager
    def _call(self, call: str, **names: str) -> Iterator[None]:
        self._write(call, "begun", names)
        try:
            yield
        except BaseException as error:
            self._write(call, type(error).__name__, names)
            raise
        self._write(call, "done", names)

    def _write(self, call: str, outcome: str, names: dict[str, str]) -> None:
        line = {
            "at": datetime.now(UTC).isoformat(),
            "uid": os.getuid(),
            "pid": os.getpid(),
            "snapshotter": self._name,
            "call": call,
            **names,
            "outcome": outcome,
        }
        try:
            # One write to a file opened for appending: lines of several processes do not mix.
            target = os.open(self._path, _APPEND, 0o600)
            try:
                os.write(target, json.dumps(line).encode() + b"\n")
            finally:
                os.close(target)
        except OSError as error:
            raise from_os_error(error, f"cannot write the audit {self._path!r}") from error


def open_audit(name: str, root: str, options: Options) -> Audit:  # noqa: ARG001
    """Return the wrapper for one snapshotter; see `WrapperFactory`."""
    return Audit(name, os.path.join(root, "audit.jsonl"))
