"""Labels, the only part of a snapshot that can change, and finding snapshots by them."""

from __future__ import annotations

from dataclasses import replace

from snapcore.conformance.harness import Harness, checks, expect, expect_equal, expect_error
from snapcore.errors import InvalidArgument
from snapcore.snapshots import Info, Kind


def _own(info: Info) -> dict[str, str]:
    """Return the labels that the checks set; backends may make up others."""
    return {key: value for key, value in info.labels.items() if key.startswith("t.")}


def _one_of_each(harness: Harness) -> tuple[str, ...]:
    s = harness.snapshotter
    for name, parent in (("base", ""), ("top", "base")):
        s.prepare("key", parent)
        s.commit(name, "key", labels={"t.a": "1", "t.b": "2", "t.c": "3"})
    for suffix, parent in (("", ""), (" on top", "top")):
        s.prepare(f"active{suffix}", parent, labels={"t.a": "1", "t.b": "2", "t.c": "3"})
        s.view(f"view{suffix}", parent, labels={"t.a": "1", "t.b": "2", "t.c": "3"})
    return ("base", "top", "active", "view", "active on top", "view on top")


def check_labels_are_given_back(harness: Harness) -> None:
    """Prepare, view and commit keep the labels they were given, of any text."""
    s = harness.snapshotter
    labels = {"t.plain": "v", "t.dotted/x.y": "ü=,\"'", "t.line": "a\nb"}
    s.prepare("active", "", labels=labels)
    s.view("view", "", labels=labels)
    for key in ("active", "view"):
        expect_equal(_own(s.stat(key)), labels, f"labels of {key!r}")
    expect_equal(_own(s.commit("name", "active", labels=labels)), labels, "labels of commit")


def check_commit_replaces_labels(harness: Harness) -> None:
    """A committed snapshot has the labels of commit, none of prepare."""
    s = harness.snapshotter
    s.prepare("key", "", labels={"t.old": "1", "t.both": "1"})
    s.commit("name", "key", labels={"t.both": "2", "t.new": "2"})
    expect_equal(_own(s.stat("name")), {"t.both": "2", "t.new": "2"}, "labels after commit")


def check_update_replaces_all(harness: Harness) -> None:
    """Without field paths, and with `labels`, the labels given are the labels afterwards."""
    s = harness.snapshotter
    for key in _one_of_each(harness):
        for paths, value in (((), "x"), (("labels",), "y")):
            before = s.stat(key)
            after = s.update(replace(before, labels={"t.new": value}), paths)
            expect_equal(after, s.stat(key), f"update's answer for {key!r} and stat's")
            expect_equal(_own(after), {"t.new": value}, f"labels of {key!r} after {paths}")
            expect_equal(
                (after.kind, after.name, after.parent, after.created),
                (before.kind, before.name, before.parent, before.created),
                f"what an update of {key!r} must not change",
            )
            expect(after.updated > before.updated, f"update of {key!r} left `updated` alone")


def check_update_by_path(harness: Harness) -> None:
    """One path sets or deletes one key; labels without a path are ignored."""
    s = harness.snapshotter
    for key in _one_of_each(harness):
        given = replace(s.stat(key), labels={"t.a": "new", "t.c": "ignored", "t.x.y/z": "dotted"})
        after = s.update(given, ("labels.t.a", "labels.t.b", "labels.t.x.y/z"))
        wanted = {"t.a": "new", "t.c": "3", "t.x.y/z": "dotted"}
        expect_equal(_own(after), wanted, f"labels of {key!r} after an update by path")
        emptied = s.update(replace(after, labels={"t.c": ""}), ("labels.t.c",))
        expect("t.c" not in emptied.labels, f"an empty value did not delete a label of {key!r}")


def check_update_refuses_other_paths(harness: Harness) -> None:
    """Nothing but labels can be updated, and a refused update changes nothing."""
    s = harness.snapshotter
    for key in _one_of_each(harness):
        before = s.stat(key)
        for path in ("parent", "kind", "name", "created", "label", "labels.", ""):
            with expect_error(InvalidArgument, f"update of {path!r}"):
                s.update(replace(before, labels={"t.a": "no"}), ("labels.t.a", path))
        with expect_error(InvalidArgument, "update to a label that is too long"):
            s.update(replace(before, labels={"t.a": "v" * 5000}), ())
        expect_equal(s.stat(key), before, f"{key!r} after refused updates")


def check_update_with_a_stats_answer(harness: Harness) -> None:
    """Giving back what stat answered is fine, whatever labels the backend made up."""
    s = harness.snapshotter
    for key in _one_of_each(harness):
        before = s.stat(key)
        expect_equal(s.update(before, ()).labels, before.labels, f"labels of {key!r}")


def check_walk_filters(harness: Harness) -> None:
    """Filters on every field, alone, together and as alternatives."""
    s = harness.snapshotter
    _one_of_each(harness)
    s.update(replace(s.stat("top"), labels={"t.a": "other", "t.d/e": "x"}), ("labels",))
    everything = {"base", "top", "active", "view", "active on top", "view on top"}
    table: tuple[tuple[tuple[str, ...], set[str]], ...] = (
        ((), everything),
        (("kind==active",), {"active", "active on top"}),
        (("kind==view",), {"view", "view on top"}),
        (("kind==committed",), {"base", "top"}),
        (("name==base",), {"base"}),
        (("name!=base",), everything - {"base"}),
        (('name=="active on top"',), {"active on top"}),
        (("name~=^view",), {"view", "view on top"}),
        (("parent==top",), {"active on top", "view on top"}),
        (("parent!=top",), everything - {"active on top", "view on top"}),
        (('labels."t.a"',), everything),
        (('labels."t.a"==1',), everything - {"top"}),
        (('labels."t.d/e"',), {"top"}),
        (('labels."t.d/e"==x', "name==base"), {"top", "base"}),
        (('kind==committed,labels."t.a"==1',), {"base"}),
        (("kind==committed,parent==base", "name==nothing"), {"top"}),
    )
    for filters, wanted in table:
        found = [info.name for info in s.walk(filters)]
        expect_equal(set(found), wanted, f"what {filters} finds")
        expect_equal(len(found), len(wanted), f"how often {filters} finds it")


def check_walk_filter_language(harness: Harness) -> None:
    """Quotes and their escapes, regular expressions in three forms, blanks, absent fields."""
    s = harness.snapshotter
    named = {"base", "a b", "comma,here", 'q"uote', "ünï", "slash/es"}
    for name in named:
        s.prepare(name, "", labels={"t.a": "1,2", "t.b.c": 'say "hi"'} if name == "base" else {})
    table: tuple[tuple[str, set[str]], ...] = (
        ("", named),
        (' name == base , labels."t.a" == "1,2" ', {"base"}),
        ('name=="comma,here"', {"comma,here"}),
        ('name=="q\\"uote"', {'q"uote'}),
        ('name=="\\u00fcn\\xef"', {"ünï"}),
        ("name~=se$", {"base"}),
        ("name~=/^a b$/", {"a b"}),
        ("name~=/h\\/e/", {"slash/es"}),
        ("name~=|,|", {"comma,here"}),
        ('name~="[,/]"', {"comma,here", "slash/es"}),
        ("labels.t.b.c", {"base"}),
        ('labels."t.b.c"~=hi', {"base"}),
        ('labels."t.none"!=x', named),
        ('labels."t.none"~=^$', named),
        ('labels."t.none"==""', set()),
        # A parent of none is "" and not absent, as in containerd.
        ("parent", named),
        ('parent==""', named),
    )
    for text, wanted in table:
        found = {info.name for info in s.walk((text,))}
        expect_equal(found, wanted, f"what the filter {text!r} finds")


def check_walk_in_pages(harness: Harness) -> None:
    """A walk is the same in pages of any size, also when the last one seen has gone meanwhile."""
    s = harness.snapshotter
    names = sorted(f"{'odd' if number % 2 else 'even'} {number:02d}" for number in range(20))
    for name in names:
        s.prepare(name, "")
    for page in (1, 3, 20, 21):
        for text, wanted in (("", names), ("name~=^odd", names[10:]), ("name==none", [])):
            found = [info.name for info in s.walk((text,), page=page)]
            expect_equal(found, wanted, f"a walk with {text!r} in pages of {page}")
    seen = []
    for info in s.walk(page=2):
        seen.append(info.name)
        s.remove(info.name)
    expect_equal(seen, names, "a walk that removes what it sees")
    expect_equal(list(s.walk()), [], "what is left after it")


def check_walk_refuses_bad_filters(harness: Harness) -> None:
    """A filter that does not parse is refused before anything is answered."""
    s = harness.snapshotter
    s.prepare("key", "")
    for bad in ("kind=active", "name~=[", 'labels."open', "==x", "kind==active,", "size==1"):
        with expect_error(InvalidArgument, f"walk with {bad!r}"):
            list(s.walk((bad,)))


def check_walk_is_sorted_and_whole(harness: Harness) -> None:
    """Names come sorted by their bytes, each once, while others come and go during the walk."""
    s = harness.snapshotter
    names = [f"{number:03d}" for number in range(300)] + ["Z", "a", "é", "z", "\U0001f40b"]
    for name in names:
        s.prepare(name, "")
    found: list[str] = []
    for info in s.walk():
        found.append(info.name)
        if len(found) == 150:
            s.remove("010")
            s.remove("299")
            s.prepare("299 is new", "")
    expect_equal(found, sorted(found, key=str.encode), "the order of a walk")
    expect_equal(len(found), len(set(found)), "a name seen twice")
    stay = set(names) - {"010", "299"}
    expect(stay <= set(found), f"a walk left out {sorted(stay - set(found))[:5]}")


def check_stat_inside_walk(harness: Harness) -> None:
    """Other calls work while a walk is under way, and agree with it."""
    s = harness.snapshotter
    _one_of_each(harness)
    for info in s.walk():
        expect_equal(s.stat(info.name), info, f"stat of {info.name!r} inside a walk")
        if info.kind is not Kind.COMMITTED:
            s.mounts(info.name)
            s.remove(info.name)
    expect_equal(sorted(i.name for i in s.walk()), ["base", "top"], "names after the walk")


CHECKS = checks(
    check_labels_are_given_back,
    check_commit_replaces_labels,
    check_update_replaces_all,
    check_update_by_path,
    check_update_refuses_other_paths,
    check_update_with_a_stats_answer,
    check_walk_filters,
    check_walk_filter_language,
    check_walk_in_pages,
    check_walk_refuses_bad_filters,
    check_walk_is_sorted_and_whole,
    check_stat_inside_walk,
    mounts=False,
)
