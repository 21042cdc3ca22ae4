"""Where hostile images are tried: a small disk with nodes' roots, and a canary beside them."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio

from snapcore.archive import Limits, tree_digest
from snapcore.config import NodeConfig, UnpackConfig
from snapcore.errors import NotFound, SnapcoreError
from snapcore.linux import MountFlag, UnmountFlag, mount, umount
from snapcore.mount import mounts_below
from snapcore.node import Node, PullOptions, UnpackChoice
from snapcore.snapshots import Kind
from snapcore_fuse.daemon.client import Daemon
from snapcore_fuse.daemon.places import Places
from snapcore_fuse.settings import Settings
from support.layers import Path as TreePath
from support.nodes import children
from support.tree_model import observe

MIB: Final = 1 << 20
DISK: Final = "size=64m,nr_inodes=40000"
LIMITS: Final = Limits(
    size=32 * MIB, entries=2000, ratio=200, ratio_free=8 * MIB, members=64, pax=MIB
)
"""Budgets of a layer here; with those of the product every bomb would take its time."""
WORKER_MEMORY: Final = 384 * MIB
"""Address space that a worker may have, threads and libraries included."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an image.

    Attributes:
        refusal: the error's class; None if it was unpacked.
        message: the error's.
        digest: of the tree.
        tree: what it shows, as `observe` has it.
    """

    refusal: type[SnapcoreError] | None
    message: str = ""
    digest: str = ""
    tree: dict[TreePath, tuple[object, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Remains:
    """What lies on the disk apart from content: it must not change when an image is refused."""

    snapshots: frozenset[str]
    directories: int
    ingests: tuple[str, ...]
    state: tuple[str, ...]
    mounts: int


class Disk:
    """A small filesystem, with a tree on it that nobody may touch.

    Attributes:
        place: its mount point.
        canary: the tree.
    """

    def __init__(self, place: Path) -> None:
        self.place: Final = place
        self.canary: Final = place / "canary"
        _make_canary(self.canary)
        self._before = self._look()

    def check_canary(self) -> None:
        """Fail if anything of the tree was written, linked, moved or changed."""
        assert self._look() == self._before

    def used(self) -> int:
        """Return the bytes that are taken."""
        status = os.statvfs(self.place)
        return (status.f_blocks - status.f_bfree) * status.f_frsize

    def _look(self) -> Sequence[tuple[object, ...]]:
        """Return names, attributes, inodes and bytes."""
        found: list[tuple[object, ...]] = []
        for top, directories, files in os.walk(self.canary):
            for name in (".", *directories, *files):
                path = os.path.join(top, name)
                seen = os.lstat(path)
                data = Path(path).read_bytes() if stat.S_ISREG(seen.st_mode) else b""
                found.append((path, data, *_identity(seen)))
        return found


class Ground:
    """One backend's node.

    Attributes:
        backend: the snapshotter's name.
        node: the node.
    """

    def __init__(self, root: Path, backend: str, node: Node) -> None:
        self.backend: Final = backend
        self.node: Final = node
        self._root = root

    def load(self, layout: str, name: str) -> Outcome:
        """Import and unpack the image of a layout; see that a refusal leaves nothing."""
        choice = UnpackChoice(snapshotters=(self.backend,))
        return self._try(partial(self.node.import_, layout, name=name, choice=choice), name)

    def pull(self, name: str) -> Outcome:
        """Pull and unpack an image from a registry without TLS, likewise."""
        choice = UnpackChoice(snapshotters=(self.backend,))
        options = PullOptions(choice, plain_http=True)
        return self._try(partial(self.node.pull, name, options), name)

    def _try(self, action: Callable[[], Awaitable[object]], name: str) -> Outcome:
        before = self._remains()

        async def run() -> None:
            await action()

        try:
            trio.run(run)
        except SnapcoreError as error:
            self._check_refused(before, name)
            return Outcome(type(error), str(error))
        finally:
            self._limit_workers()
        with self.node.mounted(name, snapshotter=self.backend) as root:
            return Outcome(None, "", str(tree_digest(root).digest), observe(root))

    def _check_refused(self, before: Remains, name: str) -> None:
        after = self._remains()
        # The layer below may have been good, and is kept then.
        assert len(after.snapshots) - len(before.snapshots) <= 1
        assert after.directories == len(after.snapshots)
        kept = replace(before, snapshots=after.snapshots, directories=after.directories)
        assert after == kept, (after, kept)
        with pytest.raises(NotFound):
            self.node.images.get(name)

    def snapshots(self) -> frozenset[str]:
        """Return the names of all snapshots; none may be in progress."""
        infos = list(self.node.snapshotter(self.backend).walk())
        assert {info.kind for info in infos} <= {Kind.COMMITTED}
        return frozenset(info.name for info in infos)

    def _remains(self) -> Remains:
        snapshots = self._root / "snapshotters" / self.backend / "snapshots"
        return Remains(
            self.snapshots(),
            len(_names(snapshots)),
            _names(self._root / "content/ingest"),
            _names(self._root / "state"),
            # A lazy backend's daemon has a mount of its own, and ends when it has nothing to do.
            len(mounts_below(str(self._root / "state"))) + len(mounts_below(str(snapshots))),
        )

    def _limit_workers(self) -> None:
        """Bound the memory of all workers from now on: they inherit it from their zygote."""
        for pid in children(os.getpid()):
            if b"snapcore.unpack.zygote" in Path(f"/proc/{pid}/cmdline").read_bytes():
                resource.prlimit(pid, resource.RLIMIT_AS, (WORKER_MEMORY, WORKER_MEMORY))


def _names(directory: Path) -> tuple[str, ...]:
    return tuple(sorted(os.listdir(directory))) if directory.exists() else ()


def _identity(seen: os.stat_result) -> tuple[int, ...]:
    return (
        seen.st_ino, seen.st_mode, seen.st_nlink, seen.st_uid, seen.st_gid, seen.st_size,
        seen.st_mtime_ns, seen.st_ctime_ns,
    )  # fmt: skip


def _make_canary(place: Path) -> None:
    (place / "in").mkdir(parents=True)
    (place / "secret").write_bytes(b"secret")
    (place / "suid").write_bytes(b"program")
    (place / "in/deep").write_bytes(b"deep")
    (place / "link").symlink_to("secret")


@contextmanager
def small_disk(place: Path) -> Iterator[Disk]:
    """Mount a small disk on an empty directory; see at the end that nothing else is mounted."""
    mount("tmpfs", str(place), "tmpfs", MountFlag(0), DISK)
    try:
        yield Disk(place)
        assert [entry.target for entry in mounts_below(str(place))] == [str(place)]
    finally:
        umount(str(place), UnmountFlag.DETACH)


@contextmanager
def ground(root: Path, backend: str) -> Iterator[Ground]:
    """Open a node of one backend with small budgets."""
    config = NodeConfig(
        root=str(root),
        state=str(root / "state"),
        snapshotters=(backend,),
        unpack=UnpackConfig(limits=LIMITS),
    )
    with Node.open(config) as node:
        yield Ground(root, backend, node)
    if backend == "fuse":
        Daemon(Places(str(root / "snapshotters/fuse")), Settings()).stop()
