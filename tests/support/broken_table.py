"""Snapshotters that are broken in one way each, and the checks that must catch them.

Most go wrong as real ones did: containerd's erofs said nothing when what it was to remove was
not there, its native one counted a whole copy as a snapshot's own, its overlay and native ones
look at the key of a commit before its name.
"""

from __future__ import annotations

from typing import Final

from snapcore.snapshots import Capability
from support import broken_answers as answers
from support import broken_commits as commits
from support import broken_copies as copies
from support import broken_core as core
from support import broken_counts as counts
from support import broken_files as files
from support import broken_labels as labels
from support import broken_overlay as stacks
from support import broken_processes as processes
from support import broken_ruins as ruins
from support import broken_state as state
from support.broken import Broken, face, memory, native, overlay, plugin

BROKEN: Final[tuple[Broken, ...]] = (
    memory(answers.OtherMounts, {"mounts_are_what_prepare_gave": "mounts of 'empty': found"}),
    memory(answers.WritableView, {"every_mount_of_a_view_is_read_only": "a writable mount"}),
    memory(
        answers.MountsOfCommitted,
        {"mounts_of_committed": "mounts of a committed snapshot: raised nothing"},
    ),
    memory(answers.HidesTheFuture, {"clock_steps": "NotFound: old"}),
    memory(answers.RemoveMissing, {"unknown_keys": "remove of an unknown key: raised nothing"}),
    memory(
        answers.WrongClass, {"unknown_keys": "remove of an unknown key: raised FailedPrecondition"}
    ),
    memory(
        answers.PathsBeforeKey,
        {"update_errors_in_order": "of an unknown key: raised InvalidArgument"},
    ),
    memory(
        answers.KeyBeforeParent,
        {"prepare_and_view": "'active' on a missing parent: raised AlreadyExists"},
    ),
    memory(answers.KeyBeforeName, {"commit": "as the taken 'committed': raised NotFound"}),
    memory(answers.CommitsViews, {"commit": "commit of 'view': raised nothing"}),
    memory(
        answers.CommitsAnyway,
        {"commit_of_what_goes": "calls that take a key: ended with None and None"},
    ),
    memory(answers.ForgetsMaps, {"maps_do_not_change": "update of 'mapped' by (): raised nothing"}),
    memory(
        answers.MapsLayers,
        {"mapped_actives_are_no_layers": "target of a mapped Active: raised nothing"},
    ),
    memory(answers.RefIsTaken, {"snapshot_ref_is_a_label": "AlreadyExists: sha256:00"}),
    memory(
        answers.SuppliesWithoutLabel,
        {"remote_supplies_a_layer": "'', None), wanted"},
        remote="sha256:aa",
    ),
    memory(
        answers.StagedIsFinal,
        {"remote_supplies_a_layer": "there is nothing to commit"},
        staged="sha256:aa",
    ),
    memory(
        answers.SwallowsCancel, {"cancelled_calls": "commit swallowed what its checkpoint raised"}
    ),
    memory(answers.ViewsAreActive, {"stat": "a view: found"}),
    memory(answers.RemovesActives, {"key_is_free_after_remove": "what remove of a view answers"}),
    memory(answers.Mumbles, {"messages_name_the_thing": "a message does not name 'the missing'"}),
    memory(labels.KeepsLabels, {"commit_replaces_labels": "'t.old': '1'}, wanted"}),
    memory(labels.UnsortedWalk, {"walk_is_sorted_and_whole": "walk gave 'é' after"}),
    memory(labels.ForgetfulWalk, {"walk_is_sorted_and_whole": "a walk left out"}),
    memory(labels.SmallPages, {"walk_in_pages": "in pages of 1: found ['even 00']"}),
    memory(labels.PrefixFilters, {"walk_filters": "what ('name==base',) finds"}),
    memory(labels.AnchoredFilters, {"walk_filter_language": "'name~=se$' finds: found set()"}),
    memory(labels.NoUpdated, {"update_replaces_all": "left `updated` alone"}),
    memory(
        labels.CreatedMoves, {"update_replaces_all": "what an update of 'base' must not change"}
    ),
    memory(labels.AnyPath, {"update_refuses_other_paths": "update of 'parent': raised nothing"}),
    memory(labels.PlainLabels, {"labels_are_given_back": "labels of 'active': found"}),
    memory(labels.ShortLabels, {"label_rules": "the longest label"}),
    memory(labels.RefusesItsOwnLabels, {"update_with_a_stats_answer": "'own/number' is made up"}),
    memory(labels.WalksWithoutLabels, {"stat_inside_walk": "stat of 'active' inside a walk"}),
    memory(labels.AnyMap, {"malformed_maps": "prepare with map '0:0': raised nothing"}),
    memory(state.KeepsKey, {"commit": "commit of a key a second time: raised nothing"}),
    memory(
        state.RemovesParents,
        {"remove_with_children": "'committed', which has children: raised nothing"},
    ),
    memory(
        state.AnyParent, {"prepare_and_view": "prepare 'new' on parent 'active': raised nothing"}
    ),
    memory(state.RebasesAnything, {"rebase_table": "what has another parent: raised nothing"}),
    memory(state.NormalisesKeys, {"key_grammar": "NotFound: no snapshot 'e"}),
    memory(state.ShortKeys, {"key_grammar": "NotFound: no snapshot 'kkk"}),
    memory(state.KeepsEmptyLabels, {"update_by_path": "did not delete a label of 'base'"}),
    memory(state.PathsReplaceAll, {"update_by_path": "labels of 'base' after an update by path"}),
    memory(
        state.ForgetsAtClose,
        {
            "mounts_are_what_prepare_gave": "NotFound: no snapshot 'empty'",
            "calls_after_close": "what is there: found []",
        },
    ),
    memory(
        state.KeyOfTheCancelled,
        {"cancelled_prepare": "stat after a cancelled prepare: raised nothing"},
    ),
    memory(state.UsageOfNothing, {"unknown_keys": "usage of an unknown key: raised nothing"}),
    memory(state.Unlocked, {"threads_are_linearizable": "no order explains"}),
    memory(state.LeaksDescriptors, {"nothing_is_leaked": "'descriptor "}),
    memory(state.LeaksThreads, {"nothing_is_leaked": "left behind'"}),
    memory(
        state.SuppliesElsewhere,
        {"remote_supplies_a_layer": "'', 'sha256:aa'), wanted"},
        remote="sha256:aa",
    ),
    memory(state.SkipsAGeneration, {"parents_are_transitive": "found ['c', 'a']"}),
    memory(state.SeesOnlyItsOwn, {"two_instances_share_the_state": "NotFound: no snapshot 'one'"}),
    memory(
        state.LooksThenActs,
        {"commits_race_for_a_key": "calls that take a key: ended with None and None"},
    ),
    memory(
        state.RefusesTheOvertaken,
        {"commit_while_its_key_becomes_another_snapshots": "was replaced while it was committed"},
    ),
    memory(
        state.IgnoresMaps,
        {"maps_are_honoured_or_refused": "a snapshot with id maps: raised nothing"},
        lacking=Capability.REMAP_IDS,
    ),
    memory(ruins.StandsOnRuins, {"broken_parents": "prepare 'new' on 'broken': raised nothing"}),
    memory(
        ruins.KeyBeforeRuins, {"broken_parents": "view 'active' on 'broken': raised AlreadyExists"}
    ),
    memory(ruins.HidesRuins, {"broken_parents": "stat's answer and mark_broken's"}),
    memory(
        ruins.LooksAtTheParentOnly, {"broken_parents": "prepare 'new' on 'above': raised nothing"}
    ),
    memory(
        ruins.BreaksWhatIsUsed,
        {"what_cannot_be_broken": "'top', which an active stands on: raised nothing"},
    ),
    memory(
        ruins.RuinsAreTaken,
        {"broken_is_replaced_by_a_commit": "under its name: raised AlreadyExists"},
    ),
    memory(ruins.ForgetsWhatItReplaces, {"broken_is_replaced_by_a_commit": "its labels: found"}),
    face(core.ClosesAgainAndAgain, {"close_twice": "the second close found something open"}),
    face(core.ServesWhenClosed, {"calls_after_close": "call 0 after close: raised nothing"}),
    face(
        core.WalksByBadFilters,
        {"walk_refuses_bad_filters": "walk with 'kind=active': raised nothing"},
    ),
    native(
        answers.TwoWinners,
        {"commits_race_for_a_name": "commits of a name: ended with None and None"},
    ),
    native(
        answers.PreparesAnyway,
        {"prepare_on_what_goes": "prepare and remove: ended with None and None"},
    ),
    native(answers.CreatedAtOpen, {"everything_survives_reopening": "infos after reopening"}),
    native(answers.ShowsOwnIds, {"mapped_ids": "owner of the root: found (0, 0)"}),
    native(counts.FewLayers, {"128_layers": "more than a hundred layers"}),
    native(counts.StaleUsage, {"usage_of_an_active_is_live": "1 MiB more is 0 bytes"}),
    native(counts.UsageOfWholeTree, {"usage_leaves_parents_out": "an unchanged child: Usage("}),
    native(
        counts.BusyCleanup,
        {"cleanup_frees_what_was_removed": "directories that a second cleanup removes: found 1"},
    ),
    native(counts.RebasesInSilence, {"rebase_is_done_or_refused": "a rebase: raised nothing"}),
    native(
        copies.CopiesWithoutAsking,
        {
            "long_work_asks": "files without asking on the way",
            "large_copies_ask": "bytes without asking on the way",
        },
    ),
    native(copies.CountsWithoutAsking, {"long_work_asks": "usage of a thousand files never asked"}),
    native(copies.FollowsSymlinks, {"special_files": "'link to dir' is no symlink any more"}),
    native(counts.ShallowUsage, {"deep_trees": "1000 inodes counted in 2000 levels"}),
    native(counts.FlushesNothing, {"flush": "flush synced no filesystem"}),
    native(
        copies.LosesXattrs,
        {"xattrs": "xattrs of 'dir': found []", "acls": "the ACL of 'file' is gone"},
    ),
    native(copies.WholeSeconds, {"times": "found 1234567890000000000"}),
    native(copies.SplitsLinks, {"hard_links": "inodes of three names: found 3"}),
    native(copies.FillsHoles, {"sparse_files": "'sparse' takes"}),
    native(copies.DropsSpecialFiles, {"special_files": "/fifo'"}),
    native(
        copies.LosesSetuid,
        {
            "capabilities_and_setuid": "No data available",
            "chown": "of 'opt': found (0, 0)",
            "directory_owner_on_commit": "a directory made again: found (0, 0",
        },
    ),
    native(copies.FreshRoot, {"root_comes_from_the_parent": "a child's root: found (0, 0"}),
    native(copies.ReadableNames, {"odd_names": "names: found"}),
    native(copies.WholeBlocks, {"contents_of_files": "a file of 1 bytes differs"}),
    native(copies.ShortIds, {"large_ids": "ids: found (65534, 65533)"}),
    native(copies.OtherDevices, {"devices": "device 'null': found"}),
    native(copies.OnePageOfNames, {"large_directory": "names: found"}),
    native(
        commits.SeesChangesBySize,
        {
            "file_updates": "contents in round 1: found b'0000'",
            "rename_over": "after the rename: found (['conf'], b'old')",
        },
    ),
    native(
        commits.ForgetsDeletions,
        {
            "directory_removed_and_made_again": "layer 2: found ['new', 'old0'",
            "deleted_files_stay_deleted": "the third layer: found ['gone', 'kept']",
            "move_file_from_lower": "directories after the move: found ['new', 'old']",
        },
    ),
    native(commits.KeepsSymlinks, {"type_changes": "types of files: found"}),
    native(commits.RenamesNoDirectories, {"rename_directory": "after it: found"}),
    native(files.PrivateRoot, {"root_permission": "mode of an empty root: found 448"}),
    native(
        files.Polluted,
        {"new_snapshot_starts_empty_again": "under an old key: found ['left over']"},
    ),
    native(
        files.ViewWritableThroughABind,
        {"view_is_read_only": "in a view of 'base' one can write into a file"},
    ),
    native(
        files.SharesTheParent,
        {
            "stories": "/etc/second'",
            "committed_never_changes": "a child appended to it: found b'base and more'",
            "views_and_actives_do_not_disturb_each_other": "/file'",
        },
    ),
    native(files.CountsNames, {"usage_counts_inodes_once": "1 MiB with 6 names takes"}),
    native(
        files.NeverCleans, {"cleanup_frees_what_was_removed": "entries below the state root: found"}
    ),
    native(
        files.CleansTheLiving, {"cleanup_leaves_the_living": "an active after cleanup: found []"}
    ),
    native(
        files.WrongWhiteouts,
        {
            "whiteouts_in_every_order": "No such device or address",
            "target_describes_its_style": "the lowers' files: found",
            "opaque_root_hides_what_is_below": "what layer 3 shows: found",
        },
    ),
    native(files.StoresOldUsage, {"usage_is_stored_at_commit": "usage after commit: found"}),
    native(
        files.LowersForApply,
        {"target_describes_its_style": "lowers of a target that shows everything: found"},
    ),
    native(files.TargetElsewhere, {"target_is_where_the_layer_goes": "what is mounted: found []"}),
    native(
        files.ReplacesNothing, {"what_replaces_broken_shows": "files of what took its place: found"}
    ),
    overlay(
        stacks.RebasesOntoNothing,
        {"rebased_layer_shows_its_parent": "the rebased layer and its parent show: found"},
    ),
    overlay(
        stacks.RebasesOntoTheGone,
        {"rebase_onto_what_goes": "rebase and remove: ended with None and None"},
    ),
    overlay(counts.WillNotSayHowMany, {"500_layers": "the refusal does not say how many layers"}),
    plugin(processes.TrustsItsMemory, {"processes_are_linearizable": "no order explains"}),
    plugin(
        processes.LeavesATrace,
        {
            "killed_in_the_middle": "entries after prepare was killed at point",
            "killed_at_many_points": "entries after prepare was killed at point",
        },
    ),
)
