"""One state for all checks, as behind a socket: empty before each of them, and again afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from snapcore.errors import FailedPrecondition
from snapcore.snapshots import Snapshotter


@contextmanager
def emptied(snapshotter: Snapshotter, reopen: Callable[[], Snapshotter]) -> Iterator[None]:
    """Remove what was made during a `with` block.

    Args:
        snapshotter: has nothing in it.
        reopen: opens it once more, since a check may close it.

    Raises:
        FailedPrecondition: there is something in it, which stays; or something could not be
            removed.
    """
    found = next(snapshotter.walk(), None)
    if found is not None:
        raise FailedPrecondition(
            f"{snapshotter.root!r} has snapshots already, such as {found.name!r}; checks need a"
            " service, or a namespace of containerd's, of their own"
        )
    try:
        yield
    finally:
        with reopen() as again:
            remove_all(again)


def remove_all(snapshotter: Snapshotter) -> None:
    """Remove every snapshot, children first.

    Raises:
        FailedPrecondition: the parents go round in a circle, or new ones keep coming.
        SnapcoreError: whatever removing raises.
    """
    parents = {info.name: info.parent for info in snapshotter.walk()}
    while parents:
        childless = parents.keys() - set(parents.values())
        if not childless:
            raise FailedPrecondition(f"snapshots {sorted(parents)} all have children")
        for name in childless:
            snapshotter.remove(name)
            del parents[name]
    snapshotter.cleanup()
