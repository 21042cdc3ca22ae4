"""A user namespace that exists for its maps alone, as mount_setattr(2) wants one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from snapcore.linux.process import Namespace, unshare


@contextmanager
def user_namespace(uid_map: str, gid_map: str) -> Iterator[int]:
    """Make a user namespace with these maps for the duration of a `with` block.

    Args:
        uid_map: lines of `inside outside count` (user_namespaces(7)).
        gid_map: as `uid_map`.

    Yields:
        Its descriptor.

    Raises:
        OSError: the maps are refused, or user namespaces are not permitted.
    """
    ready, tell = os.pipe()
    wait, release = os.pipe()
    child = os.fork()
    if not child:
        _hold(tell, wait, (ready, release))
    os.close(tell)
    os.close(wait)
    try:
        number = int.from_bytes(os.read(ready, 4), "little")
        if number:
            raise OSError(number, os.strerror(number))
        for name, text in (("uid_map", uid_map), ("gid_map", gid_map)):
            with open(f"/proc/{child}/{name}", "w", encoding="ascii") as file:
                file.write(text)
        descriptor = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.close(release)
        os.waitpid(child, 0)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _hold(tell: int, wait: int, others: tuple[int, ...]) -> None:
    """Be the child: enter a namespace, say how that went, live until the parent lets go."""
    number = 0
    try:
        for descriptor in others:
            os.close(descriptor)
        unshare(Namespace.USER)
    except OSError as error:
        number = error.errno or 1
    os.write(tell, number.to_bytes(4, "little"))
    os.read(wait, 1)
    os._exit(0)
