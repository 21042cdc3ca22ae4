"""The contract of a snapshotter, as pluggy hooks that are also a typing Protocol.

Vocabulary
    A **key** names an Active or View snapshot, a **name** a Committed one. Both live in one
    namespace: 1 to 4096 bytes of UTF-8 without control characters, never used as paths. A
    **parent** is the name of a Committed snapshot; "" is the empty directory. **Mounts** are
    what makes a snapshot visible; a snapshotter never mounts on behalf of its caller.

Story 1, importing a layer
    `prepare("extract-1", "")` gives mounts. The caller writes the layer there and calls
    `commit("sha256:aa…", "extract-1")`: the key is gone, the name is there for ever after.

Story 2, the next layer
    `prepare("extract-2", "sha256:aa…")` shows the first layer's files, writable; what is
    written does not change the parent. `commit("sha256:bb…", "extract-2")` stacks it.

Story 3, running a container
    `prepare("c1", "sha256:bb…")` gives a root file system to write in; `view(…)` one to read.
    `remove("c1")` when the container is gone. Parents go only after their children.

House rules for implementations
    - A plain class with `@hookimpl` on each method; the class need not inherit anything.
    - Every hook returns a value; None means "nobody answered" and is a ContractError.
    - An implementation may take fewer arguments than the spec (so old plugins survive new
      ones), but never other names, and no keyword-only ones.
    - Synchronous, and safe to call from several threads and processes at once.
    - Errors are those of `snapcore.errors`, in the order that each method names.
    - Long work calls `checkpoint()` now and then; it raises when the caller has gone away
      (a BaseException such as trio's Cancelled, or an error of ours), and what it raises must
      be let through after undoing what was begun.

Wrappers
    Metrics, quotas, audits, fault injection: an object whose methods, named like the hooks
    below, are marked `@hookimpl(wrapper=True)`, take any of the hook's arguments, `yield` once
    for the inner call's result and return it or raise. An entry point of group
    `snapcore.wrappers` names a `WrapperFactory`, which makes one for each opened snapshotter.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import pluggy

from snapcore.oci import Descriptor, Digest
from snapcore.snapshots.types import (
    ApplyResult,
    FlushReport,
    IndexBlob,
    Info,
    Labels,
    LayerLimits,
    LayerTarget,
    Mounts,
    Option,
    Options,
    Page,
    Probe,
    Reclaimed,
    SnapshotStatus,
    Usage,
)

PROJECT = "snapcore"
ENTRY_POINTS = "snapcore.snapshotters"
WRAPPER_ENTRY_POINTS = "snapcore.wrappers"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Checkpoint: TypeAlias = Callable[[], None]


def no_checkpoint() -> None:
    """Be the checkpoint of a caller that cannot be cancelled."""


class Backend(Protocol):
    """What every snapshotter does. One instance serves one state root."""

    @hookspec(firstresult=True)
    @abstractmethod
    def stat(self, key: str) -> Info:
        """Return what is known of a snapshot of any kind.

        Raises:
            NotFound: no such key or name.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def update(self, info: Info, fieldpaths: tuple[str, ...]) -> Info:
        """Change labels, the only mutable part; bump `updated`, keep `created`.

        Args:
            info: names the snapshot by `info.name` and carries the new labels.
            fieldpaths: () or ("labels",) replaces all labels; `labels.<key>` sets that one
                key; an empty value deletes it.

        Raises:
            NotFound: no such snapshot.
            InvalidArgument: any other field path; or the id maps of an Active or View would
                change.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def usage(self, key: str, checkpoint: Checkpoint) -> Usage:
        """Return what removal would free, without parents.

        Committed: as stored at commit. Active and View: a live scan, outside any lock.

        Raises:
            NotFound: no such snapshot.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def mounts(self, key: str) -> Mounts:
        """Return the mounts that prepare or view gave for this key, the same ones.

        Raises:
            NotFound: no such key.
            FailedPrecondition: the snapshot is Committed.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """Create an Active snapshot on a parent and return its mounts.

        Its root directory has mode 0755 and, with a parent, the owner and mode of the parent's
        root. With parent "" and a `…/parent-chain-id` label it *will be rebased* at commit.

        A **remote** backend that finds label `containerd.io/snapshot.ref` = T may make the
        content available itself: commit it *named T*, with that label and this parent, and
        raise AlreadyExists; the caller stats T. In the **staged form** the last mount is
        read-only: the content is there, nothing is applied, and the caller only commits.

        Raises:
            NotFound: no such parent.
            InvalidArgument: the parent is not Committed, or the key is malformed.
            DataLoss: the parent is broken.
            AlreadyExists: the key is taken, or the remote form has supplied T.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def view(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """Create a View: as prepare, but every mount is read-only, and really so.

        Raises:
            NotFound, InvalidArgument, DataLoss, AlreadyExists: as prepare.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        """Turn an Active snapshot into a Committed one; the key is gone afterwards.

        The labels replace those of the key; the usage is stored. `parent` "" keeps the
        parent; else the snapshot is *rebased* onto it, if it had none.

        Raises:
            AlreadyExists: the name is taken.
            NotFound: no such key; or, rebasing, no such parent.
            FailedPrecondition: the key is not Active, or was prepared with id maps (its files
                have other ids than a layer's on some backends); or the new parent is not
                Committed.
            InvalidArgument: the snapshot has another parent, or the name is malformed.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def remove(self, key: str, checkpoint: Checkpoint) -> Info:
        """Remove a snapshot of any kind and return what it was.

        The key is free at once; files may go later, in cleanup.

        Raises:
            NotFound: no such snapshot.
            FailedPrecondition: it has children.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def walk(self, filters: tuple[str, ...], after: str, limit: int) -> Page:
        """Return the next page of snapshots, sorted by the bytes of their names.

        What exists throughout a walk is seen exactly once. An empty page ends it.

        Args:
            filters: OR-ed; inside one, comma means AND; fields `name`, `parent`, `kind`,
                `labels."k"`; presence, `==`, `!=`, `~=` (regular expression).
            after: the last name seen, excluded; "" for the beginning.
            limit: most infos in a page.

        Raises:
            InvalidArgument: a filter does not parse.
        """


class SnapshotterSpec(Backend, Protocol):
    """All that a snapshotter may do; a backend may leave out the hooks that are added here."""

    @hookspec(firstresult=True)
    @abstractmethod
    def target(self, key: str) -> LayerTarget:
        """Say where a layer is applied for this key. Optional: core derives it from mounts.

        Raises:
            NotFound: no such key.
            FailedPrecondition: the snapshot is not Active, or was prepared with id maps.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def status(self, key: str) -> SnapshotStatus:
        """Say whether the content of a snapshot's own layer is here. Optional: all of it is.

        Raises:
            NotFound: no such key or name.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def plan(self, labels: Labels, checkpoint: Checkpoint) -> SnapshotStatus:
        """Say how a layer will fare that `prepare` gets these labels for; make nothing.

        Of a remote snapshotter: its caller shows it, and begins to fetch the layers that have a
        reason not to be lazy. No promise: `prepare` decides. Optional: nothing is known.

        Returns:
            With `lazy` and `format`, or with a `reason`; neither if nothing is known.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def mark_broken(self, name: str) -> Info:
        """Take a committed snapshot out of use, since its files are damaged.

        From now on its state is `broken`: nothing new stands on it, and the next commit of that
        name on the same parent takes its place, with its children and labels. Optional: such a
        backend cannot have its snapshots repaired.

        Raises:
            NotFound: no such snapshot.
            FailedPrecondition: it is not Committed; or an Active or View stands on it, directly
                or not, which may be mounted.
            Unimplemented: the backend has no broken snapshots.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def flush(self) -> FlushReport:
        """Put everything acknowledged on disk before returning. Optional: core syncs the root.

        Raises:
            DataLoss: the sync failed; that is final for this opened snapshotter.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def cleanup(self, checkpoint: Checkpoint) -> Reclaimed:
        """Finish removals and delete what crashed owners left behind. Safe at any time.

        Optional: there is nothing to clean up.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def close(self) -> bool:
        """Release what the instance holds; True if it was open. Snapshots and mounts stay.

        Optional: the instance holds nothing.
        """


class ModuleSpec(Protocol):
    """What a plugin module offers; the entry point names the module."""

    @hookspec(firstresult=True)
    @abstractmethod
    def snapcore_probe(self, root: str, options: Options) -> Probe:
        """Try out, at `root`, whether the backend works here, and leave nothing behind.

        Args:
            root: the state root it would get; may not exist yet.
            options: checked against `snapcore_options`, defaults filled in.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def snapcore_options(self) -> Mapping[str, Option]:
        """Return the options that `[plugins.<name>]` may set. Optional: none."""

    @hookspec(firstresult=True)
    @abstractmethod
    def snapcore_open(self, root: str, options: Options, probe: Probe) -> Backend:
        """Open, and create if need be, the state below `root` (mode 0700).

        Args:
            root: the state root.
            options: checked against `snapcore_options`, defaults filled in.
            probe: what `snapcore_probe` has just said of this root with these options.

        Raises:
            FailedPrecondition: the host or the root cannot carry this backend.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def snapcore_apply(
        self, target: str, stream_fd: int, options: Options, limits: LayerLimits
    ) -> ApplyResult:
        """Apply one uncompressed tar read from `stream_fd` (capability `own_apply`).

        Runs in a worker process of its own, without any database, and may write only below
        `target`. The bytes are not yet verified: the result counts only if all digests match.
        What is past one of the `limits` is refused with `RefusedInput`.
        """

    @hookspec(firstresult=True)
    @abstractmethod
    def snapcore_index(
        self, blob: int, layer: Descriptor, diff_id: Digest, quick: bool
    ) -> IndexBlob:
        """Make an index of a layer that is here whole, for others to publish. Optional.

        Args:
            blob: open descriptor of the layer's blob, at its beginning.
            layer: what it is.
            diff_id: of its uncompressed tar.
            quick: somebody waits, and a larger index that is made sooner is the better one.

        Raises:
            Unimplemented: such a layer needs none, or can have none; the message says why.
            RefusedInput, DigestMismatch: it is damaged, or not what it should be.
        """


class WrapperFactory(Protocol):
    """What an entry point of group `snapcore.wrappers` names."""

    def __call__(self, name: str, root: str, options: Options) -> object:
        """Return the object whose `wrapper=True` hooks go around one snapshotter's.

        Args:
            name: the snapshotter's name.
            root: its state root.
            options: its options, defaults filled in.
        """


REQUIRED_HOOKS = tuple(name for name in vars(Backend) if not name.startswith("_"))
OPTIONAL_HOOKS = tuple(name for name in vars(SnapshotterSpec) if not name.startswith("_"))
HOOKS = REQUIRED_HOOKS + OPTIONAL_HOOKS
