"""Without root: the whole kit, and images from layout to tree, in user namespaces.

One process a test, since a process with threads cannot enter one (user_namespaces(7)).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import tars
from support.cli import call
from support.kernel import MANY_IDS, ONE_ID, in_user_namespace
from support.layout import File, LayoutBuilder, opaque, tar_of, whiteout

pytestmark = pytest.mark.needs_root

_MAPS = pytest.mark.parametrize("ids", [ONE_ID, MANY_IDS], ids=["one id", "many ids"])

_KIT = """
import os, sys
from snapcore.conformance import ALL_CHECKS, Harness
from snapcore.snapshots import open_snapshotter

backend, top, *names = sys.argv[1:]
for check in ALL_CHECKS:
    if check.long or (names and check.name not in names):
        continue
    place = os.path.join(top, check.name)
    os.mkdir(place)
    os.mkdir(os.path.join(place, "work"))
    opened = []
    def one():
        opened.append(open_snapshotter(backend, os.path.join(place, "root")))
        return opened[-1]
    harness = Harness(one(), os.path.join(place, "work"), one, installed=True)
    reason = check.missing(harness)
    if not reason:
        try:
            check.function(harness)
        except BaseException as error:
            raise AssertionError(check.name) from error
    print(check.name, reason, sep=": ")
    for each in opened:
        each.close()
"""
_LEFT_OUT = {
    "needs root outside of any user namespace",
    "native does not claim rebase",
    "native does not claim remap_ids",
    "native does not claim remote",
    "overlay does not claim remap_ids",
    "overlay does not claim remote",
    "overlay does not claim rename_dir",
}


def _kit(ids: str, backend: str, top: Path, *names: str) -> dict[str, str]:
    out = in_user_namespace(ids, _KIT, backend, str(top), *names)
    return {name: reason for name, _, reason in (line.partition(": ") for line in out.splitlines())}


@pytest.mark.parametrize("backend", ["overlay", "native"])
def test_a_few_checks_with_many_ids(tmp_path: Path, backend: str) -> None:
    names = ("stories", "chown", "capabilities_and_setuid", "deleted_files_stay_deleted")
    assert _kit(MANY_IDS, backend, tmp_path, *names) == dict.fromkeys(names, "")


@pytest.mark.long
@_MAPS
@pytest.mark.parametrize("backend", ["overlay", "native"])
def test_the_whole_kit(tmp_path: Path, backend: str, ids: str) -> None:
    reasons = _kit(ids, backend, tmp_path)
    assert len([name for name, reason in reasons.items() if not reason]) > 60
    allowed = _LEFT_OUT
    if ids == ONE_ID:
        allowed = allowed | {"needs root, or a user namespace with ids up to 65534"}
    assert set(reasons.values()) - {""} <= allowed


_IMPORT = """
import json, os, sys
from support.cli import call

root, layout, config = sys.argv[1:]
both = ("--root", root, *(("--config", config) if config else ()))
both += ("--snapshotter", "overlay", "--snapshotter", "native")
done = call(*both, "images", "import", layout, "--name", "localhost/image")
digests = []
for name in ("overlay", "native") if done.code == 0 else ():
    point = os.path.join(root, name)
    os.mkdir(point)
    one = ("--root", root, "--snapshotter", name)
    for arguments in (("mount", "localhost/image", point), ("unmount", point)):
        if arguments[0] == "unmount":
            digests.append(call("digest", point).out.strip())
        step = call(*one, "images", *arguments)
        assert step.code == 0, step.err
left = 0
for name in ("overlay", "native"):
    one = ("--root", root, "--snapshotter", name, "--format", "json")
    left += len(call(*one, "snapshots", "ls").records())
print(json.dumps({"code": done.code, "error": done.err, "digests": digests, "left": left}))
"""


@dataclass(frozen=True)
class _Imported:
    """How an import into both backends ended: exit code, messages, trees, snapshots."""

    code: int
    error: str
    digests: list[str]
    left: int


def _import(ids: str, root: Path, layout: Path, config: str = "") -> _Imported:
    out = in_user_namespace(ids, _IMPORT, str(root), str(layout), config)
    return _Imported(**json.loads(out))


def _image(directory: Path, *layers: bytes) -> Path:
    builder = LayoutBuilder(directory)
    builder.add_image("latest", [builder.add_layer(layer) for layer in layers])
    return directory


def _base(uid: int, gid: int) -> bytes:
    return tar_of(
        File("usr/lib/a", b"a", uid=uid, gid=gid),
        File("lib", link="usr/lib"),
        File("usr/lib/b", hardlink="usr/lib/a"),
        File("bin/su", b"#!", mode=0o4755, uid=uid),
        File("etc/gone", b"1"),
        File("var/cache/old", b"2"),
        File("srv/x", b"3", xattrs={"user.one": "1"}),
    )


_CHANGES = tar_of(
    whiteout("etc/gone"),
    opaque("var/cache"),
    File("var/cache/new", b"4"),
    File("lib/c", b"through a symlink of the layer below"),
    File("srv/linked", hardlink="usr/lib/a"),
)


@_MAPS
def test_an_image_has_the_tree_that_root_gives_it(tmp_path: Path, ids: str) -> None:
    owner = (0, 0) if ids == ONE_ID else (1234, 5678)
    layout = _image(tmp_path / "layout", _base(*owner), _CHANGES)
    root = ("--root", str(tmp_path / "by root"), "--snapshotter", "native")
    assert call(*root, "images", "import", str(layout), "--name", "localhost/image").code == 0
    (tmp_path / "point").mkdir()
    call(*root, "images", "mount", "localhost/image", str(tmp_path / "point"))
    wanted = call("digest", str(tmp_path / "point")).out.strip()
    assert call(*root, "images", "unmount", str(tmp_path / "point")).code == 0
    found = _import(ids, tmp_path / "root", layout)
    assert found.code == 0, found.error
    assert found.digests == [wanted, wanted]
    assert wanted.startswith("sha256:")


_TAKES_ROOT = [
    pytest.param(
        tar_of(File("srv/", uid=0), File("srv/owned", b"1", uid=100_000, gid=7)),
        r"layer entry b'srv/owned': its owner 100000:7 has no ids in this user namespace",
        id="owner",
    ),
    pytest.param(
        tars.tar(tars.device(b"dev/null", 1, 3)),
        r"layer entry b'dev/null': a device needs root outside of user namespaces",
        id="device",
    ),
]


@pytest.mark.parametrize(("layer", "says"), _TAKES_ROOT)
def test_what_takes_root_is_refused_or_left_out_as_configured(
    tmp_path: Path, layer: bytes, says: str
) -> None:
    layout = _image(tmp_path / "layout", layer)
    found = _import(MANY_IDS, tmp_path / "refused", layout)
    assert found.code == 1
    assert says in found.error
    assert "set unpack.unprivileged to 'map'" in found.error
    assert found.left == 0
    config = tmp_path / "config.toml"
    config.write_text('[unpack]\nunprivileged = "map"\n')
    mapped = _import(MANY_IDS, tmp_path / "mapped", layout, str(config))
    assert mapped.code == 0, mapped.error
    assert len(set(mapped.digests)) == 1
