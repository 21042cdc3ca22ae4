"""The address of the control socket, however long its path is."""

from __future__ import annotations

import os


class reached:  # noqa: N801 - used as a function
    """Give a socket's path in a form that fits into an address (108 bytes, unix(7))."""

    def __init__(self, path: str) -> None:
        self._directory, self._name = os.path.split(path)
        self._descriptor = -1

    def __enter__(self) -> str:
        self._descriptor = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}/{self._name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
