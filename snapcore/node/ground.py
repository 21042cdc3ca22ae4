"""What a node stands on: its directories, database, content store and workers.

A root that cannot be written (a read-only file system, another user's) is only looked at:
nothing is created in it, no lock and no owner; what would write refuses.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from snapcore.config import NodeConfig
from snapcore.content import ContentStore
from snapcore.errors import NotFound, PermissionDenied, SnapcoreError, from_os_error
from snapcore.locks import Owner, remove_dead_owners
from snapcore.metadata import Metadata, open_metadata
from snapcore.node.reserve import Reserve
from snapcore.node.state import bury, remove_private
from snapcore.snapshots import remove_dead_trials
from snapcore.unpack import Workplace

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ground:
    """The opened parts of one root.

    Attributes:
        metadata: the database.
        content: the content store.
        place: what fetching and unpacking need; None if the root cannot be written.
        reserve: space for removals.
    """

    metadata: Metadata
    content: ContentStore
    place: Workplace | None
    reserve: Reserve


def open_ground(config: NodeConfig, resources: ExitStack, *, freeing: bool) -> Ground:
    """Open the parts of a node's root; `resources` closes them.

    Args:
        config: root and state.
        resources: closes what is opened.
        freeing: what is done will free space, and may have what is kept for that.

    Raises:
        NotFound: there is no node and none can be made.
        PermissionDenied: the root cannot be made, or cannot even be read.
        FailedPrecondition: it was written by a newer snapcore.
        ResourceExhausted, DataLoss: as the medium says.
    """
    if is_read_only(config.root):
        return _look_only(config, resources)
    reserve = Reserve(_private_directory(config.root))
    if freeing:
        resources.enter_context(reserve.at_hand())
    else:
        reserve.refill()
    owner = _owner(config.root)
    resources.callback(owner.close)
    _tidy(f"after dead processes below {config.root!r}", lambda: _bury_dead(config))
    for above in (config.root, os.path.join(config.root, "snapshotters")):
        # A backend's first trials are made here, before it has a directory of its own.
        remove_dead_trials(above)
    locks = _private_directory(os.path.join(config.root, "lock"))
    _private_directory(config.state)
    state = _private_directory(os.path.join(config.state, owner.id))
    resources.callback(remove_private, state)
    metadata = open_metadata(config.root)
    resources.callback(metadata.close)
    content = ContentStore(
        os.path.join(config.root, "content"), metadata.labels, locks=locks, owner=owner
    )
    _tidy(f"unfinished downloads below {content.root!r}", content.cleanup)
    place = Workplace(
        content,
        locks,
        state,
        owner.id,
        owner.fileno(),
        config.unpack.downloads,
        config.unpack.workers,
    )
    resources.callback(place.close)
    return Ground(metadata, content, place, reserve)


def is_read_only(root: str) -> bool:
    """Tell whether a root is there and this process cannot write it."""
    return os.path.isdir(root) and not os.access(root, os.W_OK | os.X_OK)


def _look_only(config: NodeConfig, resources: ExitStack) -> Ground:
    if not os.access(config.root, os.R_OK | os.X_OK):
        raise PermissionDenied(f"root {config.root!r} can be neither written nor read by this user")
    if not os.path.exists(os.path.join(config.root, "node.db")):
        raise NotFound(
            f"there is no node at {config.root!r}, and none can be made: it is read-only"
        )
    metadata = open_metadata(config.root)
    resources.callback(metadata.close)
    content = ContentStore(
        os.path.join(config.root, "content"),
        metadata.labels,
        locks=os.path.join(config.root, "lock"),
        owner=None,
    )
    return Ground(metadata, content, None, Reserve(config.root, writable=False))


def _tidy(what: str, work: Callable[[], int]) -> None:
    """Clear up what others left, and tell how much; that it fails is no reason to refuse the node.

    Args:
        what: the class of things.
        work: does it, and returns how many there were.
    """
    try:
        if count := work():
            _log.info("cleared up %s: %d", what, count)
    except SnapcoreError as error:
        _log.warning("cannot clear up %s: %s", what, error)


def _bury_dead(config: NodeConfig) -> int:
    try:
        return remove_dead_owners(
            config.root, lambda owner: bury(os.path.join(config.state, owner))
        )
    except OSError as error:
        raise from_os_error(error, f"{error.filename!r}") from error


def _owner(root: str) -> Owner:
    try:
        return Owner(root)
    except OSError as error:
        raise from_os_error(error, f"registering this process below {root!r}") from error


def _private_directory(path: str) -> str:
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, f"cannot make directory {path!r}") from error
    return path
