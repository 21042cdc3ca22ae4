"""Errors: their classes, and which comes first when two apply (contract, method table)."""

from __future__ import annotations

from collections.abc import Callable

from snapcore.conformance.harness import (
    CheckFailed,
    Harness,
    checks,
    expect,
    expect_equal,
    expect_error,
)
from snapcore.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SnapcoreError,
)

BAD_KEYS = (
    "",
    "nul\0",
    "bell\x07",
    "new\nline",
    "delete\x7f",
    "next\x85",
    "\ud800",
    "k" * 4097,
    "é" * 2049,
)
GOOD_KEYS = (
    "extract-1 sha256:00",
    "../../etc",
    "/",
    ".",
    "k" * 4096,
    "é" * 2048,
    "e\u0301",
    "\u00e9",
    "\U0001f40b",
    "a b",
    "%",
    "'; DROP TABLE",
)


def _three_kinds(harness: Harness) -> None:
    s = harness.snapshotter
    s.prepare("layer", "")
    s.commit("committed", "layer")
    s.prepare("active", "")
    s.view("view", "")


def check_unknown_keys(harness: Harness) -> None:
    """Every method that is given a key says NotFound when there is none."""
    s = harness.snapshotter
    _three_kinds(harness)
    info = s.remove("view")
    for method in (s.stat, s.status, s.usage, s.mounts, s.remove, s.target):
        with expect_error(NotFound, f"{method.__name__} of an unknown key"):
            method("view")
    with expect_error(NotFound, "update of an unknown key"):
        s.update(info)
    with expect_error(NotFound, "commit of an unknown key"):
        s.commit("name", "view")
    expect_equal(sorted(i.name for i in s.walk()), ["active", "committed"], "names afterwards")


def check_prepare_and_view(harness: Harness) -> None:
    """Parent before key: NotFound, InvalidArgument, then AlreadyExists."""
    s = harness.snapshotter
    _three_kinds(harness)
    for method in (s.prepare, s.view):
        what = method.__name__
        for key in ("new", "active"):
            with expect_error(NotFound, f"{what} {key!r} on a missing parent"):
                method(key, "missing")
            for parent in ("active", "view"):
                with expect_error(InvalidArgument, f"{what} {key!r} on parent {parent!r}"):
                    method(key, parent)
        for key in ("active", "view", "committed"):
            for parent in ("", "committed"):
                with expect_error(AlreadyExists, f"{what} of the taken key {key!r}"):
                    method(key, parent)
    names = sorted(info.name for info in s.walk())
    expect_equal(names, ["active", "committed", "view"], "names after all refusals")


def check_commit(harness: Harness) -> None:
    """Name before key: AlreadyExists, NotFound, then FailedPrecondition."""
    s = harness.snapshotter
    _three_kinds(harness)
    for name in ("committed", "view"):
        for key in ("active", "view", "committed", "missing"):
            with expect_error(AlreadyExists, f"commit of {key!r} as the taken {name!r}"):
                s.commit(name, key)
    with expect_error(NotFound, "commit of a missing key"):
        s.commit("new", "missing")
    for key in ("view", "committed"):
        with expect_error(FailedPrecondition, f"commit of {key!r}"):
            s.commit("new", key)
    s.commit("new", "active")
    with expect_error(NotFound, "commit of a key a second time"):
        s.commit("newer", "active")


def check_mounts_of_committed(harness: Harness) -> None:
    """A committed snapshot has no mounts, and is no target."""
    s = harness.snapshotter
    _three_kinds(harness)
    with expect_error(FailedPrecondition, "mounts of a committed snapshot"):
        s.mounts("committed")
    for key in ("committed", "view"):
        with expect_error(FailedPrecondition, f"target of {key!r}"):
            s.target(key)


def check_remove_with_children(harness: Harness) -> None:
    """What has children of any kind stays, and can go once they are gone."""
    s = harness.snapshotter
    _three_kinds(harness)
    s.prepare("layer", "committed")
    s.commit("middle", "layer")
    s.prepare("child", "middle")
    s.view("viewer", "middle")
    for key in ("committed", "middle"):
        with expect_error(FailedPrecondition, f"remove of {key!r}, which has children"):
            s.remove(key)
    s.remove("child")
    with expect_error(FailedPrecondition, "remove of a snapshot that has a view"):
        s.remove("middle")
    for key in ("viewer", "middle", "committed"):
        s.remove(key)
    with expect_error(NotFound, "remove a second time"):
        s.remove("middle")


def check_key_grammar(harness: Harness) -> None:
    """Any text of 1 to 4096 bytes is a key, never a path; nothing else is."""
    s = harness.snapshotter
    s.prepare("layer", "")
    s.prepare("active", "")
    for number, key in enumerate(GOOD_KEYS):
        s.prepare(key, "")
        expect_equal(s.stat(key).name, key, "the name of a snapshot with an odd key")
        s.commit(f"{number}", key)
    expect_equal(len(list(s.walk())), len(GOOD_KEYS) + 2, "snapshots with odd keys")
    for key in BAD_KEYS:
        what = f"the key {key[:20]!r} of {len(key)} characters"
        with expect_error(InvalidArgument, f"prepare of {what}"):
            s.prepare(key, "")
        with expect_error(InvalidArgument, f"view of {what}"):
            s.view(key, "")
        with expect_error(InvalidArgument, f"commit as {what}"):
            s.commit(key, "active")
    expect_equal(s.stat("active").name, "active", "the active one after all refusals")


def check_label_rules(harness: Harness) -> None:
    """Labels that are too long or have no key are refused, and leave nothing behind."""
    s = harness.snapshotter
    for labels in ({"": "v"}, {"k": "v" * 4096}, {"k\0": "v"}):
        with expect_error(InvalidArgument, "prepare with a bad label"):
            s.prepare("key", "", labels=labels)
    expect_equal(list(s.walk()), [], "what refused calls left behind")
    s.prepare("key", "", labels={"k": "v" * 4095})
    with expect_error(InvalidArgument, "commit with a bad label"):
        s.commit("name", "key", labels={"k": "v" * 4096})
    expect_equal(s.stat("key").labels["k"], "v" * 4095, "the longest label")


def check_update_errors_in_order(harness: Harness) -> None:
    """Update looks for the snapshot first: NotFound, whatever the field paths are."""
    s = harness.snapshotter
    s.prepare("key", "")
    info = s.remove("key")
    for paths in (("parent",), ("labels.",), ("",)):
        with expect_error(NotFound, f"update of {paths} of an unknown key"):
            s.update(info, paths)


def check_messages_name_the_thing(harness: Harness) -> None:
    """Who reads an error learns of which snapshot, and it is one line."""
    s = harness.snapshotter
    s.prepare("layer", "")
    s.commit("the base", "layer")
    s.prepare("the child", "the base")
    refused: tuple[tuple[str, Callable[[], object]], ...] = (
        ("the missing", lambda: s.stat("the missing")),
        ("the missing", lambda: s.prepare("new", "the missing")),
        ("the child", lambda: s.prepare("new", "the child")),
        ("the child", lambda: s.prepare("the child", "the base")),
        ("the base", lambda: s.commit("the base", "the child")),
        ("the base", lambda: s.mounts("the base")),
        ("the base", lambda: s.remove("the base")),
    )
    for name, call in refused:
        try:
            call()
        except SnapcoreError as error:
            expect(name in str(error), f"a message does not name {name!r}: {error}")
            expect("\n" not in str(error), f"a message of several lines: {error}")
        else:
            raise CheckFailed(f"nothing was raised about {name!r}")


CHECKS = checks(
    check_unknown_keys,
    check_prepare_and_view,
    check_commit,
    check_mounts_of_committed,
    check_remove_with_children,
    check_key_grammar,
    check_label_rules,
    check_update_errors_in_order,
    check_messages_name_the_thing,
    mounts=False,
)
