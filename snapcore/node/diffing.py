"""What has changed in a snapshot, as a layer."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from snapcore.archive import DiffOptions, WrittenLayer, diff_trees, diff_upper
from snapcore.errors import FailedPrecondition
from snapcore.mount import temporary_mount
from snapcore.node.holding import LeasedWork
from snapcore.oci import WhiteoutStyle
from snapcore.snapshots import Kind, Mounts, Snapshotter
from snapcore.unpack import reclaim

_BIND_WORDS: Final = frozenset({"bind", "rbind", "ro", "rw"})


def diff_snapshot(
    snapshotter: Snapshotter,
    key: str,
    write: Callable[[bytes], object],
    options: DiffOptions,
    state: str,
    work: LeasedWork,
) -> WrittenLayer:
    """Write what a snapshot has changed of its parent.

    Where layers are applied to an upper directory, what an Active snapshot has changed is what
    lies there. Else, and for a Committed one, the whole tree is compared with the parent's.

    Args:
        snapshotter: has it.
        key: Active, or the name of a Committed one.
        write: takes all of the bytes that it is given.
        options: how.
        state: the process's private directory, for mount points of a moment.
        work: holds the snapshots meanwhile.

    Raises:
        NotFound: no such snapshot.
        FailedPrecondition: it is a View, or was prepared with id maps; or it changed meanwhile.
        PermissionDenied: this process may not mount it.
        SnapcoreError: as `diff_trees`.
    """
    work.snapshots(snapshotter.name, [key])
    info = snapshotter.stat(key)
    if info.kind is Kind.VIEW:
        raise FailedPrecondition(
            f"snapshot {key!r} is a view, in which nothing can change; name an active or a"
            " committed one"
        )
    with ExitStack() as stack:
        if info.kind is Kind.ACTIVE:
            target = snapshotter.target(key)
            if target.whiteouts is not WhiteoutStyle.APPLY:
                return diff_upper(
                    target.directory, target.whiteouts, write, options, lowers=target.lowers
                )
            after = target.directory or stack.enter_context(temporary_mount(target.mounts, state))
        else:
            after = stack.enter_context(_viewed(snapshotter, key, state, work))
        before = None
        if info.parent:
            before = stack.enter_context(_viewed(snapshotter, info.parent, state, work))
        return diff_trees(before, after, write, options)


@contextmanager
def _viewed(snapshotter: Snapshotter, name: str, state: str, work: LeasedWork) -> Iterator[str]:
    """Have the tree of a Committed snapshot at a directory for the duration of the block."""
    key = f"diff-{uuid.uuid4().hex}"
    work.snapshots(snapshotter.name, (key, name))
    mounts = snapshotter.view(key, name)
    try:
        place = _bound(mounts)
        if place:
            yield place
        else:
            with temporary_mount(mounts, state) as place:
                yield place
    finally:
        snapshotter.remove(key)
        reclaim(snapshotter)


def _bound(mounts: Mounts) -> str:
    """Return the directory that is all of a mount list, which can be read as it is; else ""."""
    if len(mounts) != 1 or mounts[0].target:
        return ""
    only = mounts[0]
    plain = _BIND_WORDS.issuperset(only.options)
    binds = only.type == "bind" or {"bind", "rbind"} & set(only.options)
    return only.source if plain and binds else ""
