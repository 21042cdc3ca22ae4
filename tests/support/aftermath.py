"""What a killed process leaves below a root, once the next one has opened it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import apsw

from snapcore.archive import tree_digest
from snapcore.config import NodeConfig
from snapcore.locks import FileLock, owner_alive
from snapcore.mount import mounts_below, temporary_mount
from snapcore.node import Node
from snapcore.oci import Platform, is_layer
from snapcore.snapshots import rows
from support.cli import call

_VIEW: Final = "looked at by the test"
_KEPT_LOCKS: Final = frozenset({"root", "gc"})


@dataclass
class Leftovers:
    """What must not be there; each a list of things, by class.

    Attributes:
        mounts: below the root, that nobody asked for.
        directories: and files, that no record tells of.
        records: of what is not there, or of what a dead process was about to do.
        missing: blobs and snapshots that an image needs.
        wrong: snapshots whose files are not those of their layers.
    """

    mounts: list[str] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Leftovers, where: str = "") -> None:
        """Take over what another look has found, and say where."""
        for each in fields(self):
            found = getattr(other, each.name)
            getattr(self, each.name).extend(f"{where}: {what}" if where else what for what in found)

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))


@dataclass(frozen=True)
class Root:
    """A root with one backend.

    Attributes:
        config: how it is opened.
        backend: its snapshotter.
    """

    config: NodeConfig
    backend: str

    @property
    def path(self) -> Path:
        """Its directory."""
        return Path(self.config.root)

    @property
    def store(self) -> Path:
        """The snapshotter's state root."""
        return self.path / "snapshotters" / self.backend

    @property
    def may_be_lazy(self) -> bool:
        """Whether a layer may be there without its blob and without files of its own."""
        return (self.store / "lazy").exists()

    def rows(self) -> list[Row]:
        """Return all records of snapshots."""
        found = _rows(self.store / "metadata.db", "SELECT id, key, kind FROM snapshots")
        return [Row(int(number), key or "", kind or "") for number, key, kind in found]

    def names(self) -> set[str]:
        """Return what lies in the directories at the top, or would be made there by anybody."""
        places = (self.path, self.store)
        return {
            os.path.join(os.path.relpath(place, self.path), name)
            for place in places
            for name in _listing(place)
        }


@dataclass(frozen=True)
class Row:
    """A record of a snapshot; a reservation has neither key nor kind."""

    id: int
    key: str
    kind: str


@dataclass(frozen=True)
class Right:
    """How things are without any kill.

    Attributes:
        names: of files and directories at the top.
        trees: digests of all snapshots that there can be, as views of them show them.
    """

    names: frozenset[str]
    trees: Mapping[str, str]

    def over(self, before: Right) -> Right:
        """Return what may be there before a verb, after it or in its midst."""
        return Right(before.names | self.names, {**before.trees, **self.trees})


@dataclass(frozen=True)
class Again:
    """A command line that is done once more after a kill.

    Attributes:
        arguments: the command line.
        codes: the exit codes that it may have.
    """

    arguments: tuple[str, ...]
    codes: tuple[int, ...]


def right_of(root: Root) -> Right:
    """Return how things are in a root as it is."""
    if not root.path.exists():
        return Right(frozenset(), {})
    with Node.open(root.config) as node:
        trees = dict(_trees(node, root))
    return Right(frozenset(root.names()), trees)


def settle(root: Root, right: Right, again: Again) -> Leftovers:
    """Open a root after a kill and look; do the same again and look; remove everything and look.

    Args:
        root: where.
        right: what there must be.
        again: what was killed.
    """
    found = Leftovers()
    with Node.open(root.config) as node:
        found.add(_look(root, right, node))
    found.add(_strangers(root, right))
    done = call(*again.arguments)
    assert done.code in again.codes, (done.code, done.err)
    with Node.open(root.config) as node:
        found.add(_look(root, right, node), "done again")
        _remove_all(node, root)
        found.add(_rest(node, root))
    found.add(_strangers(root, right))
    found.add(_stays(root))
    return found


def _look(root: Root, right: Right, node: Node) -> Leftovers:
    """Collect the garbage of an opened root, and say what is left that should not be."""
    found = Leftovers()
    # To open a backend is to clear up in it, used or not.
    node.snapshotter(root.backend)
    report = node.garbage.collect()
    found.records += [f"not collected: {thing}" for thing in report.failed]
    found.missing += _missing(node, root)
    statuses = len(node.content.statuses())
    ingests = _listing(root.path / "content/ingest")
    if statuses != len(ingests):
        found.directories.append(f"{len(ingests)} directories of {statuses} ingests")
    found.directories += _unowned(root)
    found.records += _dangling(root, node)
    found.mounts += _mounts(root)
    found.wrong += [
        f"tree of {name}: {digest}"
        for name, digest in _trees(node, root)
        if right.trees.get(name) != digest
    ]
    return found


def _strangers(root: Root, right: Right) -> Leftovers:
    """Say what lies at the top of a closed root that never should."""
    return Leftovers(directories=sorted(root.names() - right.names))


def _remove_all(node: Node, root: Root) -> None:
    for image in node.images.list():
        node.images.remove(image.name)
    for lease in node.leases.list():
        node.leases.delete(lease.id)
    snapshotter = node.snapshotter(root.backend)
    for info in list(snapshotter.walk()):
        if not info.name.startswith("sha256:"):
            snapshotter.remove(info.name)
    node.garbage.collect()


def _rest(node: Node, root: Root) -> Leftovers:
    return Leftovers(
        records=[f"stays: {info.name}" for info in node.snapshotter(root.backend).walk()],
        directories=[f"stays: blob {info.digest}" for info in node.content.walk()],
    )


def _stays(root: Root) -> Leftovers:
    """Say what stays in the directories of a root that is empty and closed."""
    found = Leftovers()
    own = f"snapshotters/{root.backend}"
    for place in ("content/ingest", "owner", "state", f"{own}/owner", f"{own}/snapshots"):
        found.directories += [f"stays: {place}/{name}" for name in _listing(root.path / place)]
    inventories = (root.path / "inventories").rglob("*")
    found.directories += [f"stays: {path}" for path in inventories if path.is_file()]
    locks = set(_listing(root.path / "lock")) - _KEPT_LOCKS
    found.directories += [f"stays: lock/{name}" for name in sorted(locks)]
    return found


def _trees(node: Node, root: Root) -> Iterator[tuple[str, str]]:
    """Yield the digest of each committed snapshot with all below it, as a view shows it."""
    snapshotter = node.snapshotter(root.backend)
    for info in list(snapshotter.walk(("kind==committed",))):
        mounts = snapshotter.view(_VIEW, info.name)
        try:
            with temporary_mount(mounts) as directory:
                yield info.name, str(tree_digest(directory))
        finally:
            snapshotter.remove(_VIEW)


def _mounts(root: Root) -> Iterator[str]:
    """Yield what is mounted by nobody that lives, and needed by no Active or View."""
    served = root.store / "lazy"
    lock = FileLock(str(served / "daemon.lock"))
    needed = {str(root.store / "mounts" / str(number)) for number in _bases(root)}
    for entry in mounts_below(str(root.path)):
        if entry.target == str(served / "mnt") and not lock.try_acquire():
            continue
        if entry.target in needed:
            continue
        yield entry.target


def _bases(root: Root) -> frozenset[int]:
    """Return the ids of what Actives and Views stand on, and their own."""
    path = root.store / "metadata.db"
    if not path.exists():
        return frozenset()
    with closing(apsw.Connection(str(path), apsw.SQLITE_OPEN_READONLY)) as connection:
        return rows.bases(connection)


def _missing(node: Node, root: Root) -> Iterator[str]:
    for image in node.images.list():
        check = node.images.check(image.name, Platform.local())
        lazy = root.may_be_lazy and check.snapshots[root.backend]
        for blob in check.missing:
            if not (lazy and is_layer(blob.media_type)):
                yield f"{image.name}: {blob.digest}"


def _unowned(root: Root) -> Iterator[str]:
    for place in (root.path, root.store):
        for name in _listing(place / "owner"):
            if not owner_alive(str(place), name):
                yield f"owner/{name}"
    for name in _listing(root.path / "state"):
        if not owner_alive(str(root.path), name):
            yield f"state/{name}"
    known = {str(row.id) for row in root.rows() if row.key}
    for name in _listing(root.store / "snapshots"):
        if name not in known:
            yield f"snapshots/{name}"


def _dangling(root: Root, node: Node) -> Iterator[str]:
    there = set(_listing(root.store / "snapshots"))
    for row in root.rows():
        if not row.key:
            yield f"reservation {row.id}"
        elif str(row.id) not in there:
            yield f"snapshot {row.key} without files"
        elif row.key.startswith("extract-"):
            yield f"snapshot {row.key}"
    blobs = {str(info.digest) for info in node.content.walk()}
    labelled = _rows(root.path / "node.db", "SELECT digest FROM content")
    yield from (f"labels of {digest}" for (digest,) in labelled if digest not in blobs)
    for table in ("condemned", "mounts"):
        for what in _rows(root.path / "node.db", f"SELECT * FROM {table}"):
            yield f"{table}: {what}"


def _rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as database:
        return list(database.execute(query))


def _listing(path: Path) -> list[str]:
    return sorted(os.listdir(path)) if path.is_dir() else []
