"""Snapshotters that are broken in one way each, and the checks that must catch them.

Most go wrong as real ones did: containerd's erofs said nothing when what it was to remove was
not there, its native one counted a whole copy as a snapshot's own, its overlay and native ones
look at the key of a commit before its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from snapcore.conformance.memory import MemorySnapshotter, MemoryState
from snapcore.labels import SNAPSHOT_REF
from snapcore.snapshots import (
    Capability,
    Labels,
    Options,
    Probe,
    Snapshotter,
    WrapperChoice,
    open_backend,
    probe_snapshotter,
)
from snapcore_native import NativeSnapshotter
from support import broken_answers as answers
from support import broken_files as files
from support import broken_state as state

_B = TypeVar("_B", MemorySnapshotter, NativeSnapshotter)

Open = Callable[[], Snapshotter]
Start = Callable[[str], AbstractContextManager[Open]]


@dataclass(frozen=True, slots=True)
class Broken:
    """One broken snapshotter.

    Attributes:
        name: unique.
        fault: what is wrong with it.
        start: for a root, gives what opens it there; closes all of it in the end.
        caught_by: names of the checks that must fail.
        mounts: its files can be mounted, which needs root.
        supply: labels of a layer that it has by itself.
    """

    name: str
    fault: str
    start: Start
    caught_by: tuple[str, ...]
    mounts: bool = False
    supply: Labels = field(default_factory=dict)


def _closing(open_one: Open) -> AbstractContextManager[Open]:
    @contextmanager
    def started() -> Iterator[Open]:
        opened: list[Snapshotter] = []

        def remember() -> Snapshotter:
            opened.append(open_one())
            return opened[-1]

        yield remember
        for one in opened:
            one.close()
        state.let_go()

    return started()


def _memory(fault: type, *caught_by: str, remote: str = "", staged: str = "") -> Broken:
    """The reference, of a broken class or in a broken wrapper; it may have layers of its own."""
    backend, wrappers = _sorted_out(fault, MemorySnapshotter)

    def start(root: str) -> AbstractContextManager[Open]:
        kept = MemoryState(
            remote=frozenset([remote] * bool(remote)), staged=frozenset([staged] * bool(staged))
        )
        capabilities = {Capability.REBASE, Capability.REMAP_IDS}
        if remote or staged:
            capabilities.add(Capability.REMOTE)
        probe = Probe(usable=True, capabilities=frozenset(capabilities))
        return _closing(
            lambda: open_backend("memory", root, backend(kept), probe, wrappers=wrappers)
        )

    labels = {SNAPSHOT_REF: remote or staged} if remote or staged else {}
    return Broken(_name(fault), _text(fault), start, caught_by, supply=labels)


def _native(fault: type, *caught_by: str) -> Broken:
    """The copying snapshotter, of a broken class or in a broken wrapper."""
    backend, wrappers = _sorted_out(fault, NativeSnapshotter)

    def start(root: str) -> AbstractContextManager[Open]:
        probe = probe_snapshotter("native", root)
        return _closing(
            lambda: open_backend(
                "native", root, backend(root, remap_ids=True), probe, wrappers=wrappers
            )
        )

    return Broken(_name(fault), _text(fault), start, caught_by, mounts=True)


def _sorted_out(fault: type, base: type[_B]) -> tuple[type[_B], tuple[WrapperChoice, ...]]:
    if issubclass(fault, base):
        return fault, ()

    def make(name: str, root: str, options: Options) -> object:
        return fault()

    return base, (make,)


def _name(fault: type) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"-\1", fault.__name__).lower()


def _text(fault: type) -> str:
    assert fault.__doc__
    return fault.__doc__


BROKEN: Final = (
    _memory(answers.OtherMounts, "mounts_are_what_prepare_gave"),
    _memory(answers.WritableView, "every_mount_of_a_view_is_read_only"),
    _memory(answers.MountsOfCommitted, "mounts_of_committed"),
    _memory(answers.KeepsLabels, "commit_replaces_labels"),
    _memory(answers.HidesTheFuture, "clock_steps"),
    _memory(answers.RemoveMissing, "unknown_keys"),
    _memory(answers.WrongClass, "unknown_keys"),
    _memory(answers.PathsBeforeKey, "update_errors_in_order"),
    _memory(answers.KeyBeforeParent, "prepare_and_view"),
    _memory(answers.KeyBeforeName, "commit"),
    _memory(answers.CommitsViews, "commit"),
    _memory(answers.UnsortedWalk, "walk_is_sorted_and_whole"),
    _memory(answers.ForgetfulWalk, "walk_is_sorted_and_whole"),
    _memory(answers.SmallPages, "walk_in_pages"),
    _memory(answers.PrefixFilters, "walk_filters"),
    _memory(answers.AnchoredFilters, "walk_filter_language"),
    _memory(answers.NoUpdated, "update_replaces_all"),
    _memory(answers.CreatedMoves, "update_replaces_all"),
    _memory(answers.AnyPath, "update_refuses_other_paths"),
    _memory(answers.CommitsAnyway, "commit_of_what_goes"),
    _memory(answers.ForgetsMaps, "maps_do_not_change"),
    _memory(answers.MapsLayers, "mapped_actives_are_no_layers"),
    _memory(answers.RefIsTaken, "snapshot_ref_is_a_label"),
    _memory(answers.SuppliesWithoutLabel, "remote_supplies_a_layer", remote="sha256:aa"),
    _memory(answers.StagedIsFinal, "remote_supplies_a_layer", staged="sha256:aa"),
    _memory(answers.SwallowsCancel, "cancelled_calls"),
    _memory(state.KeepsKey, "commit"),
    _memory(state.RemovesParents, "remove_with_children"),
    _memory(state.AnyParent, "prepare_and_view"),
    _memory(state.RebasesAnything, "rebase_table"),
    _memory(state.NormalisesKeys, "key_grammar"),
    _memory(state.ShortKeys, "key_grammar"),
    _memory(state.KeepsEmptyLabels, "update_by_path"),
    _memory(state.PathsReplaceAll, "update_by_path"),
    _memory(state.ForgetsAtClose, "mounts_are_what_prepare_gave"),
    _memory(state.KeyOfTheCancelled, "cancelled_prepare"),
    _memory(state.UsageOfNothing, "unknown_keys"),
    _memory(state.Unlocked, "threads_are_linearizable"),
    _memory(state.LeaksDescriptors, "nothing_is_leaked"),
    _memory(state.LeaksThreads, "nothing_is_leaked"),
    _memory(state.SuppliesElsewhere, "remote_supplies_a_layer", remote="sha256:aa"),
    _native(answers.TwoWinners, "commits_race_for_a_name"),
    _native(answers.PreparesAnyway, "prepare_on_what_goes"),
    _native(answers.StaleUsage, "usage_of_an_active_is_live"),
    _native(answers.UsageOfWholeTree, "usage_leaves_parents_out"),
    _native(answers.BusyCleanup, "cleanup_frees_what_was_removed"),
    _native(files.LosesXattrs, "xattrs"),
    _native(files.WholeSeconds, "times"),
    _native(files.SplitsLinks, "hard_links"),
    _native(files.FillsHoles, "sparse_files"),
    _native(files.DropsSpecialFiles, "special_files"),
    _native(files.LosesSetuid, "capabilities_and_setuid"),
    _native(files.PrivateRoot, "root_permission"),
    _native(files.Polluted, "new_snapshot_starts_empty_again"),
    _native(files.ViewWritableThroughABind, "view_is_read_only"),
    _native(files.SharesTheParent, "committed_never_changes"),
    _native(files.CountsNames, "usage_counts_inodes_once"),
    _native(files.NeverCleans, "cleanup_frees_what_was_removed"),
    _native(files.CleansTheLiving, "cleanup_leaves_the_living"),
    _native(files.WrongWhiteouts, "whiteouts_in_every_order"),
    _native(files.StoresOldUsage, "usage_is_stored_at_commit"),
)
