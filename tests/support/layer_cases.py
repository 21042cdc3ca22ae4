"""Named cases: what hostile and odd layers do to one base tree, the same on every backend.

Each case is a layer and how it changes the base; None means that a path is gone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from snapcore.archive import EntryType
from support.layers import Layer, entry, file, folder, hardlink, opaque, symlink, whiteout

FIFO: Final = EntryType.FIFO
CHARACTER: Final = EntryType.CHARACTER
DIRECTORY: Final = EntryType.DIRECTORY
LONG: Final = "n" * 255
BASE: Final[Layer] = (
    folder("d", mtime=7),
    file("d/one", b"1"),
    file("d/two", b"2"),
    folder("d/sub", mtime=8),
    file("d/sub/deep", b"deep"),
    file("file", b"data"),
    folder("usr"),
    folder("usr/lib"),
    file("usr/lib/x", b"x"),
    symlink("lib", "usr/lib"),
    symlink("abs", "/usr"),
    symlink("out", "../../../../../etc"),
    symlink("loop", "loop"),
    symlink("dangling", "nowhere/here"),
    symlink("d/up", ".."),
    file("h1", b"hard"),
    hardlink("h2", "h1"),
    hardlink("d/h3", "h1"),
    entry("pipe", FIFO, mode=0o600),
)
Changes = Mapping[str, str | None]


def gone(*paths: str) -> Changes:
    return dict.fromkeys(paths)


D_GONE: Final = gone("d", "d/one", "d/two", "d/sub", "d/sub/deep", "d/up", "d/h3")
D_EMPTY: Final = gone("d/one", "d/two", "d/sub", "d/sub/deep", "d/up", "d/h3")
ALL: Final = "file lib abs out loop dangling h1 h2 pipe usr usr/lib usr/lib/x".split()  # noqa: SIM905

CASES: Final[list[tuple[str, Layer, Changes]]] = [
    ("empty-layer", [], {}),
    # --- parents -----------------------------------------------------------------------------
    ("new-file-in-old-directory", [file("d/new", b"n")], {"d/new": "file n"}),
    ("implied-parents", [file("p/q/r", b"r")], {"p": "dir", "p/q": "dir", "p/q/r": "file r"}),
    ("through-lower-symlink", [file("lib/y", b"y")], {"usr/lib/y": "file y"}),
    ("through-absolute-symlink", [file("abs/y", b"y")], {"usr/y": "file y"}),
    ("through-escaping-symlink", [file("out/y", b"y")], {"etc": "dir", "etc/y": "file y"}),
    (
        "through-dangling-symlink",
        [file("dangling/y", b"y")],
        {"nowhere": "dir", "nowhere/here": "dir", "nowhere/here/y": "file y"},
    ),
    ("through-symlink-up", [file("d/up/d/up/y", b"y")], {"y": "file y"}),
    (
        "through-own-symlink",
        [symlink("s", "d/sub"), file("s/y", b"y")],
        {"s": "link d/sub", "d/sub/y": "file y"},
    ),
    (
        "through-own-symlink-out",
        [symlink("s", "/../.."), file("s/etc/y", b"y")],
        {"s": "link /../..", "etc": "dir", "etc/y": "file y"},
    ),
    (
        "through-a-replaced-symlink",
        [file("lib/y", b"y"), folder("lib"), file("lib/z", b"z")],
        {"usr/lib/y": "file y", "lib": "dir", "lib/z": "file z"},
    ),
    (
        "directory-becomes-symlink-between-two-files",
        [file("d/y", b"y"), symlink("d", "usr"), file("d/z", b"z")],
        {**D_GONE, "d": "link usr", "usr/z": "file z"},
    ),
    (
        "ancestor-becomes-symlink-between-two-files",
        [file("d/sub/y", b"y"), symlink("d", "usr"), file("d/sub/z", b"z")],
        {**D_GONE, "d": "link usr", "usr/sub": "dir", "usr/sub/z": "file z"},
    ),
    (
        "symlink-is-retargeted-between-two-files",
        [file("lib/y", b"y"), symlink("lib", "d"), file("lib/z", b"z")],
        {"usr/lib/y": "file y", "lib": "link d", "d/z": "file z"},
    ),
    (
        "symlink-way-is-removed-under-the-open-directory",
        [
            symlink("s", "d/sub/../../usr"),
            file("s/y", b"y"),
            symlink("d/sub", "/usr/lib"),
            file("s/z", b"z"),
        ],
        {
            "s": "link d/sub/../../usr",
            "usr/y": "file y",
            "d/sub": "link /usr/lib",
            "d/sub/deep": None,
            # /usr/lib/../../usr is /usr again.
            "usr/z": "file z",
        },
    ),
    (
        "symlink-on-the-way-is-replaced-by-a-name-in-the-open-directory",
        [
            symlink("d/hop", "/d/sub"),
            symlink("s", "d/hop/.."),
            file("s/y", b"y"),
            symlink("s/hop", "/usr/lib"),
            file("s/z", b"z"),
        ],
        {
            "d/hop": "link /usr/lib",
            "s": "link d/hop/..",
            "d/y": "file y",
            # Through the new link: /usr/lib/.. is /usr.
            "usr/z": "file z",
        },
    ),
    (
        "a-new-directory-changes-the-way-to-itself",
        [
            symlink("d/hop", "/usr/lib"),
            symlink("usr/back", "/d"),
            symlink("d/back", "/e"),
            symlink("s", "d/hop/../back"),
            folder("s/hop"),
            file("s/hop/z", b"z"),
        ],
        {
            "d/hop": "dir",
            "usr/back": "link /d",
            "d/back": "link /e",
            "s": "link d/hop/../back",
            # It was /usr/back, so /d; now it is /d/back, so /e.
            "e": "dir",
            "e/hop": "dir",
            "e/hop/z": "file z",
        },
    ),
    (
        "forty-links",
        [*(symlink(f"s{n}", f"s{n + 1}") for n in range(39)), symlink("s39", "d"), file("s0/y")],
        {**{f"s{n}": f"link s{n + 1}" for n in range(39)}, "s39": "link d", "d/y": "file "},
    ),
    (
        "link-chain",
        [symlink("s1", "s2"), symlink("s2", "/s3"), symlink("s3", "d"), file("s1/y", b"y")],
        {"s1": "link s2", "s2": "link /s3", "s3": "link d", "d/y": "file y"},
    ),
    (
        "dotdot-in-a-target-clamps-at-the-root",
        [symlink("s", "d/../../../usr"), file("s/y", b"y")],
        {"s": "link d/../../../usr", "usr/y": "file y"},
    ),
    # --- replacing -----------------------------------------------------------------------------
    ("file-over-file", [file("file", b"new")], {"file": "file new"}),
    ("file-over-symlink", [file("lib", b"new")], {"lib": "file new"}),
    ("file-over-directory", [file("d", b"new")], {**D_GONE, "d": "file new"}),
    ("file-over-fifo", [file("pipe", b"new")], {"pipe": "file new"}),
    ("symlink-over-file", [symlink("file", "d")], {"file": "link d"}),
    ("symlink-over-directory", [symlink("d", "usr")], {**D_GONE, "d": "link usr"}),
    ("directory-over-file", [folder("file")], {"file": "dir"}),
    ("directory-over-symlink", [folder("lib")], {"lib": "dir"}),
    (
        "directory-over-symlink-to-directory-leaves-it",
        [folder("lib"), file("lib/y", b"y")],
        {"lib": "dir", "lib/y": "file y"},
    ),
    ("directory-over-directory", [folder("d", mode=0o700)], {"d": "dir 700"}),
    ("fifo-over-file", [entry("file", FIFO)], {"file": "fifo"}),
    ("device-over-directory", [entry("d", CHARACTER, device=(1, 3))], {**D_GONE, "d": "char"}),
    ("file-over-hard-link", [file("h1", b"new")], {"h1": "file new"}),
    ("last-of-duplicates-wins", [file("y", b"1"), file("y", b"22")], {"y": "file 22"}),
    (
        "earlier-link-keeps-old-data",
        [file("y", b"1"), hardlink("z", "y"), file("y", b"22")],
        {"y": "file 22", "z": "file 1"},
    ),
    (
        "fifo-then-file",
        [entry("y", FIFO), file("y", b"1")],
        {"y": "file 1"},
    ),
    (
        "directory-replaced-and-back",
        [file("d", b"f"), folder("d"), file("d/new", b"n")],
        {**D_EMPTY, "d/new": "file n"},
    ),
    (
        "deep-directory-replaced-and-back",
        [symlink("d", "usr"), folder("d"), folder("d/sub"), file("d/sub/new", b"n")],
        {**D_EMPTY, "d/sub": "dir", "d/sub/new": "file n"},
    ),
    (
        "longest-name",
        [file(LONG, b"l"), folder(f"d/{LONG}")],
        {LONG: "file l", f"d/{LONG}": "dir"},
    ),
    (
        "names-are-bytes",
        [file(b"d/\xff\xfe\n", b"b")],
        {os.fsdecode(b"d/\xff\xfe\n"): "file b"},
    ),
    # --- the root ------------------------------------------------------------------------------
    ("root-attributes", [folder("", mode=0o711)], {"": "dir 711"}),
    # --- whiteouts -----------------------------------------------------------------------------
    ("whiteout-file", [whiteout("file")], gone("file")),
    ("whiteout-directory", [whiteout("d")], D_GONE),
    ("whiteout-symlink-not-its-target", [whiteout("lib")], gone("lib")),
    ("whiteout-nothing", [whiteout("nothing")], {}),
    ("whiteout-in-missing-directory", [whiteout("no/thing")], {}),
    ("whiteout-below-a-file", [whiteout("file/thing")], {}),
    ("whiteout-in-a-loop", [whiteout("loop/thing")], {}),
    ("whiteout-twice", [whiteout("file"), whiteout("file")], gone("file")),
    ("whiteout-through-symlink", [whiteout("lib/x")], gone("usr/lib/x")),
    ("whiteout-through-symlink-out", [whiteout("out/passwd")], {}),
    ("whiteout-through-symlink-up", [whiteout("d/up/file")], gone("file")),
    ("whiteout-then-new-file", [whiteout("file"), file("file", b"n")], {"file": "file n"}),
    ("new-file-then-whiteout", [file("file", b"n"), whiteout("file")], {"file": "file n"}),
    (
        "whiteout-then-new-directory",
        [whiteout("d"), folder("d"), file("d/new", b"n")],
        {**D_EMPTY, "d/new": "file n"},
    ),
    (
        "whiteout-then-implied-directory",
        [whiteout("d"), file("d/new", b"n")],
        {**D_EMPTY, "d/new": "file n"},
    ),
    (
        "new-directory-then-whiteout",
        [folder("d"), file("d/new", b"n"), whiteout("d")],
        {**D_EMPTY, "d/new": "file n"},
    ),
    (
        "child-then-whiteout-of-its-directory",
        [file("d/new", b"n"), whiteout("d")],
        {**D_EMPTY, "d/new": "file n"},
    ),
    ("whiteout-below-whiteout", [whiteout("d"), whiteout("d/one")], D_GONE),
    ("whiteout-above-whiteout", [whiteout("d/one"), whiteout("d")], D_GONE),
    (
        "whiteout-of-a-symlink-then-through-it",
        [whiteout("lib"), whiteout("lib/x")],
        gone("lib", "usr/lib/x"),
    ),
    (
        "whiteout-through-a-symlink-in-a-removed-directory",
        [whiteout("d"), whiteout("d/up/file")],
        {**D_GONE, "file": None},
    ),
    (
        "whiteout-through-a-replaced-symlink",
        [folder("lib"), whiteout("lib/x")],
        {"lib": "dir", "usr/lib/x": None},
    ),
    (
        "whiteout-through-a-new-symlink-is-nothing",
        [symlink("s", "usr/lib"), whiteout("s/x")],
        {"s": "link usr/lib"},
    ),
    (
        "whiteout-in-a-new-directory-is-nothing",
        [folder("n"), whiteout("n/x"), file("n/x", b"x")],
        {"n": "dir", "n/x": "file x"},
    ),
    ("whiteout-of-a-used-symlink", [file("lib/y", b"y"), whiteout("lib")],
     {"lib": "dir", "lib/y": "file y"}),
    (
        "whiteout-of-a-file-in-the-way",
        [file("file/y", b"y"), whiteout("file")],
        {"file": "dir", "file/y": "file y"},
    ),
    (
        "whiteout-of-one-link-keeps-the-others",
        [whiteout("h1"), hardlink("h4", "h2")],
        {"h1": None, "h4": "file hard", "h2": "file hard"},
    ),
    ("whiteout-is-a-directory", [entry("d/.wh.one", DIRECTORY)], gone("d/one")),
    ("whiteout-is-a-symlink", [symlink("d/.wh.one", "/etc")], gone("d/one")),
    ("whiteout-with-data", [file("d/.wh.one", b"junk"), file("y", b"y")],
     {"d/one": None, "y": "file y"}),
    ("aufs-leftovers", [file(".wh..wh.plnk"), folder(".wh..wh.aufs"), file(".wh..wh..plnk")], {}),
    ("below-aufs-leftovers", [folder(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", b"x")], {}),
    # --- opaque --------------------------------------------------------------------------------
    ("opaque", [opaque("d")], D_EMPTY),
    ("opaque-then-child", [opaque("d"), file("d/new", b"n")], {**D_EMPTY, "d/new": "file n"}),
    ("child-then-opaque", [file("d/new", b"n"), opaque("d")], {**D_EMPTY, "d/new": "file n"}),
    ("replaced-child-then-opaque", [file("d/one", b"n"), opaque("d")],
     {**D_EMPTY, "d/one": "file n"}),
    ("directory-entry-then-opaque", [folder("d", mode=0o700), opaque("d")],
     {**D_EMPTY, "d": "dir 700"}),
    ("opaque-then-directory-entry", [opaque("d"), folder("d", mode=0o700)],
     {**D_EMPTY, "d": "dir 700"}),
    ("opaque-then-same-subdirectory", [opaque("d"), file("d/sub/n", b"n")],
     {**D_EMPTY, "d/sub": "dir", "d/sub/n": "file n"}),
    ("opaque-twice-elsewhere", [opaque("d"), opaque("usr/lib")], {**D_EMPTY, "usr/lib/x": None}),
    ("opaque-after-its-symlink-was-used", [file("d/up/y", b"y"), opaque("d")],
     {**D_EMPTY, "d/up": "dir", "d/up/y": "file y"}),
    ("opaque-in-missing-directory", [opaque("nothing/here")], {}),
    ("opaque-on-a-file", [opaque("file")], {}),
    ("opaque-through-symlink", [opaque("lib")], gone("usr/lib/x")),
    ("opaque-twice", [opaque("d"), opaque("d")], D_EMPTY),
    ("opaque-inside-opaque", [opaque("d"), opaque("d/sub")], D_EMPTY),
    ("opaque-around-opaque", [opaque("d/sub"), opaque("d")], D_EMPTY),
    ("whiteout-then-opaque", [whiteout("d/one"), opaque("d")], D_EMPTY),
    ("opaque-then-whiteout", [opaque("d"), whiteout("d/one")], D_EMPTY),
    ("opaque-then-whiteout-through-removed-symlink", [opaque("d"), whiteout("d/up/file")],
     {**D_EMPTY, "file": None}),
    ("whiteout-new-directory-opaque", [whiteout("d"), folder("d"), opaque("d"), file("d/n", b"n")],
     {**D_EMPTY, "d/n": "file n"}),
    ("opaque-root", [opaque()], {**D_GONE, **gone(*ALL)}),
    ("opaque-root-then-file", [opaque(), file("d/new", b"n")],
     {**D_GONE, **gone(*ALL), "d": "dir", "d/new": "file n"}),
    ("file-then-opaque-root", [file("d/new", b"n"), opaque()],
     {**D_GONE, **gone(*ALL), "d": "dir", "d/new": "file n"}),
    # --- hard links ----------------------------------------------------------------------------
    ("link-in-the-layer", [file("y", b"y"), hardlink("z", "y")], {"y": "file y", "z": "file y"}),
    ("link-to-below", [hardlink("z", "file")], {"z": "file data"}),
    ("link-to-below-in-a-directory", [hardlink("z", "d/one")], {"z": "file 1"}),
    ("link-to-a-group-below", [hardlink("z", "h1")], {"z": "file hard"}),
    ("link-to-a-group-after-whiteout", [whiteout("h1"), hardlink("z", "h2")],
     {"h1": None, "z": "file hard"}),
    ("link-over-a-member-of-its-group", [hardlink("h2", "h1")], {}),
    ("link-to-itself", [hardlink("file", "file")], {}),
    ("link-to-a-symlink-not-its-target", [hardlink("z", "lib")], {"z": "link usr/lib"}),
    ("link-to-a-fifo-below", [hardlink("z", "pipe")], {"z": "fifo"}),
    ("link-through-symlink", [hardlink("z", "lib/x")], {"z": "file x"}),
    ("link-target-is-clamped", [hardlink("z", "d/up/file")], {"z": "file data"}),
    ("link-over-a-directory", [hardlink("d", "file")], {**D_GONE, "d": "file data"}),
    ("link-into-implied-directory", [hardlink("p/z", "file")], {"p": "dir", "p/z": "file data"}),
    ("links-of-two-layers", [hardlink("z", "h1"), hardlink("zz", "d/h3")],
     {"z": "file hard", "zz": "file hard"}),
    ("group-with-a-replaced-member", [file("h2", b"n"), hardlink("z", "h1")],
     {"h2": "file n", "z": "file hard"}),
]  # fmt: skip

REFUSED: Final[list[tuple[str, Layer]]] = [
    ("child-of-a-file", [file("file/child")]),
    ("child-of-a-fifo", [file("pipe/child")]),
    ("child-of-its-own-file", [file("y"), file("y/z")]),
    ("grandchild-of-a-file", [file("file/a/b")]),
    ("directory-below-a-file", [folder("file/child")]),
    ("symlink-loop", [file("loop/child")]),
    ("symlink-loop-of-two", [symlink("s", "t"), symlink("t", "s"), file("s/x")]),
    (
        "forty-one-links",
        [*(symlink(f"s{n}", f"s{n + 1}") for n in range(40)), symlink("s40", "d"), file("s0/y")],
    ),
    ("symlink-to-a-file-as-parent", [symlink("s", "file"), file("s/x")]),
    ("symlink-through-a-too-long-name", [symlink("s", LONG + "n"), file("s/x")]),
    ("root-is-a-file", [file("")]),
    ("root-is-a-symlink", [symlink("", "/etc")]),
    ("whiteout-without-a-name", [file("d/.wh.")]),
    ("whiteout-of-dot", [file("d/.wh..")]),
    ("whiteout-of-dotdot", [file("d/.wh...")]),
    ("below-a-whiteout", [folder("d/.wh.one"), file("d/.wh.one/x")]),
    ("whiteout-below-a-whiteout-name", [file("d/.wh.one/.wh.x")]),
    ("link-to-nothing", [hardlink("z", "nothing")]),
    ("link-to-nothing-in-nothing", [hardlink("z", "no/thing")]),
    ("link-to-a-directory", [hardlink("z", "d")]),
    ("link-to-the-root", [hardlink("z", "/")]),
    ("link-to-itself-where-nothing-is", [hardlink("z", "z")]),
    ("link-to-a-whiteout-name", [whiteout("d/one"), hardlink("z", "d/.wh.one")]),
    ("link-to-what-the-layer-whites-out", [whiteout("file"), hardlink("z", "file")]),
    ("link-before-the-whiteout-of-its-target", [hardlink("z", "file"), whiteout("file")]),
    (
        "link-to-what-is-replaced-and-whited-out",
        [hardlink("h4", "file"), file("file", b"n"), whiteout("file")],
    ),
    ("link-below-a-file", [hardlink("z", "file/x")]),
    ("link-over-the-directory-of-its-target", [hardlink("d", "d/one")]),
    ("kernel-whiteout", [entry("file", CHARACTER, device=(0, 0))]),
    ("xattr-too-large", [entry("y", xattrs={b"user.big": bytes(65537)})]),
    ("xattr-without-a-name", [entry("y", xattrs={b"user.": b"1"})]),
    ("xattr-name-too-long", [entry("y", xattrs={b"user." + b"n" * 251: b"1"})]),
    ("capability-too-short", [entry("y", xattrs={b"security.capability": b"\1\0\0\2"})]),
    ("capability-of-no-revision", [entry("y", xattrs={b"security.capability": bytes(20)})]),
    ("acl-that-is-none", [entry("y", xattrs={b"system.posix_acl_access": b"junk"})]),
]
