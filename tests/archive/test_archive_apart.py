"""Layers applied apart from their parents: what is settled, what must be done in order."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

import pytest
from support.layer_cases import BASE, CASES, REFUSED
from support.layers import (
    Apart,
    Layer,
    LocalSteps,
    MemorySource,
    entry,
    file,
    folder,
    hardlink,
    opaque,
    opened,
    symlink,
    whiteout,
)
from support.tree_model import Refused, describe, empty_tree, model_apply, observe

from snapcore.archive import (
    ApplyPolicy,
    Destination,
    EntryType,
    InOrder,
    Postponed,
    apply_apart,
    settle,
)
from snapcore.errors import FailedPrecondition, InvalidArgument, RefusedInput, Unimplemented
from snapcore.oci import WhiteoutStyle

pytestmark = pytest.mark.needs_root

DIRECTORY: Final = EntryType.DIRECTORY
# All but these are settled: symlinks that lead to nothing, upwards, or are the layer's own;
# directories that become something else and the reverse.
IN_ORDER: Final = frozenset(
    {
        "through-escaping-symlink",
        "through-dangling-symlink",
        "through-symlink-up",
        "through-own-symlink",
        "through-own-symlink-out",
        "through-a-replaced-symlink",
        "directory-becomes-symlink-between-two-files",
        "ancestor-becomes-symlink-between-two-files",
        "symlink-is-retargeted-between-two-files",
        "symlink-way-is-removed-under-the-open-directory",
        "symlink-on-the-way-is-replaced-by-a-name-in-the-open-directory",
        "a-new-directory-changes-the-way-to-itself",
        "forty-links",
        "link-chain",
        "dotdot-in-a-target-clamps-at-the-root",
        "directory-replaced-and-back",
        "deep-directory-replaced-and-back",
        "link-to-itself",
    }
)
# A system with merged /usr, and what its packages bring.
SYSTEM: Final[Layer] = (
    entry("", DIRECTORY, mode=0o711, mtime=11, ids=(1, 2), xattrs={b"user.root": b"1"}),
    folder("usr", mtime=5),
    entry("usr/bin", DIRECTORY, mode=0o751, mtime=6, ids=(3, 4), xattrs={b"user.bin": b"1"}),
    file("usr/bin/tool", b"tool"),
    hardlink("usr/bin/alias", "usr/bin/tool"),
    folder("usr/bin/sub", mode=0o2755, mtime=7),
    file("usr/bin/sub/x", b"x"),
    symlink("bin", "usr/bin"),
    symlink("sbin", "/bin"),
    symlink("usr/sub", "bin/sub"),
    folder("var", mode=0o1777, mtime=8),
    folder("var/cache", mode=0o500, mtime=9),
    file("var/cache/a"),
    file("var/cache/b"),
)


def stacked(top: Path, *layers: Layer) -> Apart:
    """Apply layers, each above the first one apart, and compare with the model."""
    place = Apart(str(top))
    tree = empty_tree()
    for layer in layers:
        place.apply(layer)
        tree = model_apply(tree, layer)
        with place.mounted() as root:
            assert observe(root) == describe(tree)
    return place


def postponed_of(top: Path, layer: Layer) -> Postponed:
    """Apply a layer apart and return what it postpones."""
    (top / "upper").mkdir()
    with opened(str(top / "upper")) as directory:
        bare = Destination(directory, None, WhiteoutStyle.OVERLAY, base=False)
        return apply_apart(MemorySource(layer), bare, ApplyPolicy(), LocalSteps())[1]


@pytest.mark.parametrize(
    ("name", "layer"), [pytest.param(name, layer, id=name) for name, layer, _ in CASES]
)
def test_each_case_over_the_base(name: str, layer: Layer, tmp_path: Path, census: None) -> None:
    place = stacked(tmp_path, BASE, layer)
    assert bool(place.redone) == (name in IN_ORDER), place.redone


@pytest.mark.parametrize("layer", [pytest.param(layer, id=name) for name, layer in REFUSED])
def test_what_is_refused_in_order_never_comes_out_of_apart(
    layer: Layer, tmp_path: Path, census: None
) -> None:
    place = Apart(str(tmp_path))
    place.apply(BASE)
    with pytest.raises(RefusedInput, match=r"layer entry "):
        place.apply(layer)
    assert place.settled == 0


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param([folder("usr"), file("usr/new")], id="explicit-parent"),
        pytest.param([file("usr/bin/new")], id="implied-parents"),
        pytest.param([file("usr/bin/new"), folder("usr/bin", mtime=99)], id="late-parent"),
        pytest.param([file("n/e/w"), folder("n/e", mode=0o700)], id="late-parent-new"),
        pytest.param([folder("", mode=0o700), file("var/cache/c")], id="root"),
        pytest.param([whiteout("usr/bin/tool")], id="whiteout"),
        pytest.param([whiteout("var"), folder("var"), file("var/x")], id="whiteout-remade"),
        pytest.param([file("var/cache/x"), whiteout("var")], id="whiteout-implied"),
        pytest.param([file("var/cache"), whiteout("var/cache/a")], id="whiteout-below-a-file"),
        pytest.param([whiteout("bin/tool"), whiteout("sbin/alias")], id="whiteout-through-symlink"),
        pytest.param([opaque("var/cache"), file("var/cache/n")], id="opaque-implied"),
        pytest.param([opaque("var"), file("var/cache/n")], id="opaque-above-implied"),
        pytest.param([folder("var/cache"), opaque("var/cache")], id="opaque-explicit"),
        pytest.param([opaque("usr/sub"), opaque("sbin")], id="opaque-through-symlink"),
        pytest.param([opaque("var"), whiteout("var")], id="opaque-and-whiteout"),
        pytest.param([opaque(), file("usr/bin/tool")], id="opaque-root"),
        pytest.param([hardlink("usr/bin/third", "usr/bin/tool")], id="link"),
        pytest.param([hardlink("z", "usr/bin/tool"), hardlink("y", "z")], id="link-to-link"),
        pytest.param(
            [hardlink("z", "usr/bin/tool"), whiteout("usr/bin/alias")], id="link-and-whiteout"
        ),
        pytest.param(
            [file("usr/bin/alias"), hardlink("z", "usr/bin/tool")], id="link-to-a-part-of-a-group"
        ),
        pytest.param([hardlink("n/z", "usr/bin/tool"), folder("usr"), folder("usr/bin")],
                     id="link-before-its-target's-parents"),
        pytest.param([hardlink("bin/z", "bin/tool")], id="link-through-symlink"),
        pytest.param([file("bin/new"), file("bin/tool", b"2")], id="usrmerge"),
        pytest.param([file("sbin/new"), file("bin/more")], id="usrmerge-chain"),
        pytest.param([file("bin/new"), file("usr/bin/more"), folder("usr/bin")],
                     id="usrmerge-both"),
        pytest.param([file("bin/sub/y"), file("usr/bin/sub/z")], id="usrmerge-merges-implied"),
        pytest.param([file("usr/sub/y"), file("bin/n/e/w")], id="usrmerge-deep"),
        pytest.param([folder("bin/sub", mode=0o700, mtime=3), file("bin/sub/y")],
                     id="usrmerge-explicit-child"),
        pytest.param([file("bin/new"), whiteout("bin/tool"), hardlink("bin/z", "bin/sub/x")],
                     id="usrmerge-and-all"),
    ],
)  # fmt: skip
def test_what_builders_write_is_settled(layer: Layer, tmp_path: Path, census: None) -> None:
    place = stacked(tmp_path, SYSTEM, layer, [file("var/last")])
    assert place.redone == []


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param([file("usr/bin/tool/x")], id="below-a-file"),
        pytest.param([file("bin/x"), folder("bin")], id="late-entry-over-a-symlink"),
        pytest.param([file("bin/x"), file("usr/bin/x")], id="two-names-of-one-file"),
        pytest.param([file("bin/x"), symlink("usr/bin", "lib")], id="target-replaced"),
        pytest.param([file("sbin/x"), folder("bin")], id="way-replaced"),
        pytest.param([file("sbin/x"), whiteout("bin")], id="way-removed"),
        pytest.param([hardlink("z", "bin/tool"), folder("bin")], id="link-way-replaced"),
        pytest.param([hardlink("z", "usr/bin/tool"), file("usr/bin/tool")], id="target-new"),
        pytest.param([hardlink("z", "usr/bin/tool"), file("z")], id="link-replaced"),
        pytest.param([hardlink("z", "usr/bin/tool"), file("z/y")], id="link-in-the-way"),
        pytest.param([file("z"), hardlink("z", "usr/bin/tool")], id="replaced-by-link"),
        pytest.param([hardlink("z", "var/cache/a"), hardlink("z", "usr/bin/tool")], id="twice"),
        pytest.param([hardlink("z", "usr/bin/tool"), hardlink("usr/bin/tool", "var/cache/a")],
                     id="target-becomes-a-link"),
        pytest.param([hardlink("usr", "var/cache/a"), hardlink("z", "usr/bin/tool")],
                     id="target-below-a-link"),
        pytest.param([folder("d"), file("d")], id="directory-then-file"),
        pytest.param([file("d"), folder("d")], id="file-then-directory"),
        pytest.param([symlink("s", "usr"), file("s/x")], id="own-symlink"),
        pytest.param([symlink("s", "usr"), file("f"), hardlink("z", "s/f")], id="own-symlink-link"),
    ],
)  # fmt: skip
def test_what_may_depend_on_order_is_done_in_order(
    layer: Layer, tmp_path: Path, census: None
) -> None:
    place = Apart(str(tmp_path))
    place.apply(SYSTEM)
    try:
        tree = model_apply(model_apply(empty_tree(), SYSTEM), layer)
    except Refused:
        with pytest.raises(RefusedInput):
            place.apply(layer)
    else:
        place.apply(layer)
        with place.mounted() as root:
            assert observe(root) == describe(tree)
    assert len(place.redone) == 1


def test_only_a_layer_with_all_its_directories_needs_no_settling(tmp_path: Path) -> None:
    whole = [folder(""), folder("d"), file("d/f"), hardlink("d/g", "d/f"), symlink("s", "d")]
    for number, (layer, empty) in enumerate(
        [
            (whole, True),
            (whole[1:], False),
            ([*whole, file("e/f")], False),
            ([*whole, file("e/f"), folder("e")], False),
            ([*whole, whiteout("x")], False),
            ([*whole, hardlink("z", "x")], False),
        ]
    ):
        (tmp_path / str(number)).mkdir()
        assert postponed_of(tmp_path / str(number), layer).empty is empty


def test_nothing_is_marked_that_hides_nothing(tmp_path: Path) -> None:
    place = stacked(
        tmp_path,
        [folder("d"), file("d/x"), folder("e"), file("f"), folder("g")],
        [whiteout("d"), folder("d"), whiteout("f"), folder("f"), folder("e"), opaque("g")],
    )
    upper = place.uppers[-1]
    marked = [n for n in "defg" if "trusted.overlay.opaque" in os.listxattr(f"{upper}/{n}")]
    assert marked == ["d", "g"]


def test_whiteouts_of_nothing_leave_nothing(tmp_path: Path) -> None:
    base = [folder("d", mode=0o750), file("d/gone"), file("keep")]
    place = stacked(tmp_path, base, [whiteout("nothing"), whiteout("no/thing"), whiteout("d/gone")])
    upper = place.uppers[-1]
    assert os.listdir(upper) == ["d"]
    assert os.listdir(f"{upper}/d") == ["gone"]
    status = os.lstat(f"{upper}/d/gone")
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == 0


def test_nothing_outside_is_touched(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    before = observe(str(outside))
    (tmp_path / "place").mkdir()
    place = Apart(str(tmp_path / "place"))
    place.apply([symlink("x", str(outside)), symlink("y", "../../outside"), file("f")])
    for layer in (
        [file("x/pwn"), file("y/pwn")],
        [whiteout("x/secret"), opaque("y")],
        [hardlink("x/z", "f")],
    ):
        place.apply(layer)
    assert observe(str(outside)) == before


def test_postponed_work_survives_as_bytes(tmp_path: Path) -> None:
    layer = [file(b"d/\xff\n/f"), folder("d"), whiteout("w"), opaque(), hardlink("z", "q/r")]
    postponed = postponed_of(tmp_path, layer)
    assert postponed == Postponed.decode(postponed.encode())
    assert postponed.implied == ((), (b"d", b"\xff\n"))
    assert postponed.late == ((b"d",),)
    assert [item.name for item in postponed.deletions] == [b"w", None]
    assert postponed.links == (((b"z",), (b"q", b"r")),)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk",
        Postponed().encode()[:-1],
        b"\x94\x90\x90\x90\x91\x92\xc4\x01a\xc4\x04../x",
        b"\x94\x91\xc4\x03a//\x90\x90\x90",
        b"\x94\x90\x90\x91\x92\xc4\x01a\xc4\x03b/c\x90",
    ],
)
def test_malformed_postponed_work_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="postponed work"):
        Postponed.decode(data)


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param([whiteout(f"w{n}") for n in range(11)], id="deletions"),
        pytest.param([file(f"d{n}/f") for n in range(11)], id="directories"),
        pytest.param([hardlink(f"h{n}", "x") for n in range(11)], id="links"),
    ],
)
@pytest.mark.parametrize(("bound", "size"), [("_MAX_RECORDS", 10), ("_MAX_BYTES", 2600)])
def test_postponed_work_is_bounded(
    layer: Layer, bound: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("less", "more"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(f"snapcore.archive.postponed.{bound}", size)
    assert not postponed_of(tmp_path / "less", layer[:6]).empty
    with pytest.raises(InOrder, match="too much"):
        postponed_of(tmp_path / "more", layer)


def test_apart_wants_a_bare_upper_directory(tmp_path: Path) -> None:
    with opened(str(tmp_path)) as directory:
        for wrong in (
            Destination(directory, None, WhiteoutStyle.APPLY, base=False),
            Destination(directory, directory, WhiteoutStyle.OVERLAY, base=False),
        ):
            with pytest.raises(FailedPrecondition, match="bare"):
                apply_apart(MemorySource([]), wrong, ApplyPolicy(), LocalSteps())
        bare = Destination(directory, None, WhiteoutStyle.OVERLAY, base=False)
        with pytest.raises(FailedPrecondition, match="nothing below"):
            settle(Postponed(), bare, ApplyPolicy(), LocalSteps())


def test_errors_while_settling_keep_their_meaning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **more: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    place = Apart(str(tmp_path))
    place.apply([file("d/f")])
    monkeypatch.setattr("os.mknod", fail)
    with pytest.raises(Unimplemented, match="b'd/f'"):
        place.apply([whiteout("d/f")])
