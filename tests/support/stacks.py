"""Stacks of random layers, few names and many kinds, so that entries meet each other."""

from __future__ import annotations

from hypothesis import strategies as st

from snapcore.archive import Entry, EntryType
from support.layers import Layer, entry
from support.tree_model import Refused, empty_tree, model_apply

_NAMES = st.sampled_from([b"a", b"b", b"c"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map(b"/".join)
_TARGETS = st.sampled_from(
    [b"a", b"b", b"/a", b"/b/a", b"../b", b"..", b"/", b"a/..", b"/c/../b", b"../../../../a", b"."]
)
_ACL = bytes.fromhex("02000000 01000700ffffffff 04000500ffffffff 20000500ffffffff")
_KINDS = st.sampled_from(
    ["file", "directory", "hardlink", "whiteout"] * 2
    + ["symlink", "fifo", "device", "whiteout", "opaque", "root"]
)
_XATTRS = st.sampled_from([{}, {}, {}, {b"user.one": b"1"}, {b"user.one": b"2", b"user.two": b""}])
_IDS = st.sampled_from([(0, 0), (0, 0), (1000, 100)])
_TIMES = st.sampled_from([0, 1, -1_500_000_001, 1_700_000_000_123_456_789])


@st.composite
def _entries(draw: st.DrawFn) -> tuple[Entry, bytes]:
    kind = draw(_KINDS)
    path = draw(_PATHS)
    ids, mtime = draw(_IDS), draw(_TIMES)
    if kind == "root":
        return entry(
            b"", EntryType.DIRECTORY, mode=draw(st.sampled_from([0o755, 0o700])), mtime=mtime
        )
    if kind in ("whiteout", "opaque"):
        parent, slash, base = path.rpartition(b"/")
        name = parent + slash + b".wh." + base if kind == "whiteout" else path + b"/.wh..wh..opq"
        if kind == "opaque" and draw(st.integers(0, 4)) == 0:
            name = b".wh..wh..opq"
        return entry(name)
    if kind == "file":
        mode = draw(st.sampled_from([0o644, 0o4755, 0o000]))
        data = draw(st.sampled_from([b"", b"x", b"yy"]))
        xattrs = draw(_XATTRS)
        return entry(path, EntryType.FILE, data, mode=mode, ids=ids, mtime=mtime, xattrs=xattrs)
    if kind == "directory":
        mode = draw(st.sampled_from([0o755, 0o2775, 0o1777, 0o000, 0o500]))
        xattrs = draw(_XATTRS)
        if mode == 0o755 and draw(st.booleans()):
            xattrs = {**xattrs, b"system.posix_acl_default": _ACL}
        return entry(path, EntryType.DIRECTORY, mode=mode, ids=ids, mtime=mtime, xattrs=xattrs)
    if kind == "symlink":
        return entry(path, EntryType.SYMLINK, ids=ids, mtime=mtime, link=draw(_TARGETS), mode=0o777)
    if kind == "hardlink":
        return entry(path, EntryType.HARDLINK, mode=0o777, ids=(7, 7), link=draw(_PATHS))
    if kind == "fifo":
        return entry(path, EntryType.FIFO, mode=0o600, ids=ids, mtime=mtime)
    return entry(path, EntryType.CHARACTER, mode=0o4600, ids=ids, mtime=mtime, device=(1, 7))


@st.composite
def stacks(draw: st.DrawFn) -> list[Layer]:
    """Draw layers that mostly can be applied; now and then one that must be refused."""
    tree = empty_tree()
    stack: list[Layer] = []
    for _ in range(draw(st.integers(1, 4))):
        layer: list[tuple[Entry, bytes]] = []
        for drawn in draw(st.lists(_entries(), max_size=12)):
            try:
                model_apply(tree, [*layer, drawn])
            except Refused:
                if draw(st.integers(0, 19)):
                    continue
            layer.append(drawn)
        stack.append(layer)
        try:
            tree = model_apply(tree, layer)
        except Refused:
            break
    return stack


_FOLDERS = st.sampled_from([b"d", b"e", b"d", b"e", b"s"])
_WAYS = st.lists(_FOLDERS, max_size=3)
_FILES = st.sampled_from([b"f", b"g"])
_LEADS = st.sampled_from([b"d", b"e", b"d/e", b"/d", b"../d", b"/e/e", b"s", b"..", b"/s", b"no"])
_BUILT = st.sampled_from(
    ["file"] * 4 + ["hardlink"] * 3 + ["whiteout", "directory"] * 2 + ["gone", "opaque", "root"]
)


@st.composite
def _built(draw: st.DrawFn, links: bool) -> tuple[Entry, bytes]:
    """Draw an entry as builders write them: what is a directory stays one, or is deleted."""
    way = draw(_WAYS)
    path = b"/".join([*way, draw(_FILES)])
    kind = draw(_BUILT)
    ids, mtime = draw(_IDS), draw(_TIMES)
    if links and draw(st.integers(0, 2)) == 0:
        name = b"/".join([*(part for part in way if part != b"s"), b"s"])
        return entry(name, EntryType.SYMLINK, ids=ids, link=draw(_LEADS), mode=0o777)
    if kind == "file":
        data = draw(st.sampled_from([b"", b"x", b"yy"]))
        return entry(path, data=data, ids=ids, mtime=mtime, xattrs=draw(_XATTRS))
    if kind == "hardlink":
        target = b"/".join([*draw(_WAYS), draw(_FILES)])
        return entry(path, EntryType.HARDLINK, link=target)
    if kind == "whiteout":
        return entry(b"/".join([*way, b".wh." + draw(_FILES)]))
    if kind == "gone":
        return entry(b"/".join([*way, b".wh." + draw(_FOLDERS)]))
    if kind == "opaque":
        return entry(b"/".join([*way, b".wh..wh..opq"]))
    name = b"" if kind == "root" else b"/".join([*way, draw(st.sampled_from([b"d", b"e"]))])
    mode = draw(st.sampled_from([0o755, 0o2750, 0o500]))
    return entry(name, EntryType.DIRECTORY, mode=mode, ids=ids, mtime=mtime, xattrs=draw(_XATTRS))


@st.composite
def built_stacks(draw: st.DrawFn) -> list[Layer]:
    """Draw layers that can be applied: a base with symlinked directories, and some on it."""
    tree = empty_tree()
    stack: list[Layer] = []
    for number in range(draw(st.integers(2, 4))):
        layer: list[tuple[Entry, bytes]] = []
        for drawn in draw(st.lists(_built(number == 0), max_size=14)):
            try:
                model_apply(tree, [*layer, drawn])
            except Refused:
                continue
            layer.append(drawn)
        stack.append(layer)
        tree = model_apply(tree, layer)
    return stack
