"""A root that cannot be written: what is there is shown, and whatever would write refuses."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import trio
from support.cli import Outcome, call
from support.images import tiny_layout

from snapcore.config import NodeConfig
from snapcore.errors import NotFound, PermissionDenied, SnapcoreError
from snapcore.linux import MountFlag, mount, umount
from snapcore.node import Node, UnpackChoice

BACKENDS: Final = ("native", "overlay")
NAME: Final = "docker.io/a/tiny:latest"
NOBODY: Final = 65534

pytestmark = pytest.mark.needs_root


def fill(root: Path, scratch: Path, backend: str) -> str:
    """Put the tiny image into a root; return its chain ID."""
    layout = str(tiny_layout(scratch / "layout").directory)
    with Node.open(NodeConfig.at(str(root))) as node:

        async def load() -> str:
            choice = UnpackChoice(snapshotters=(backend,))
            (result,) = await node.import_(layout, name="a/tiny:latest", choice=choice)
            return result.chain_id

        return trio.run(load)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def chain_id(tmp_path: Path, backend: str) -> str:
    return fill(tmp_path / "root", tmp_path, backend)


@pytest.fixture
def root(tmp_path: Path, chain_id: str) -> Iterator[Path]:
    """Mount the filled root read-only over itself."""
    assert chain_id
    place = str(tmp_path / "root")
    mount(place, place, "", MountFlag.BIND)
    try:
        mount("", place, "", MountFlag.BIND | MountFlag.REMOUNT | MountFlag.RDONLY)
        yield tmp_path / "root"
    finally:
        umount(place)


def everything(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns)
        for path in sorted(root.rglob("*"))
    }


def snapcore(root: Path, *arguments: str) -> Outcome:
    return call("--root", str(root), *arguments)


def test_what_is_there_is_shown(root: Path, backend: str, chain_id: str, tmp_path: Path) -> None:
    before = everything(root)
    assert snapcore(root, "images", "ls", "-q").out.split() == [NAME]
    assert chain_id in snapcore(root, "images", "inspect", NAME).out
    (check,) = snapcore(root, "images", "check", "--format", "json").records()
    assert (check["status"], check["unpacked_for"]) == ("complete", [backend])
    # Nobody says which snapshotter: the one that was used.
    assert chain_id in snapcore(root, "snapshots", "ls", "-q").out.split()
    usage = snapcore(root, "snapshots", "usage", chain_id, "--format", "json").records()
    assert usage[0]["inodes"]
    assert len(snapcore(root, "content", "ls", "-q").out.split()) == 4
    assert snapcore(root, "content", "get", str(check["digest"])).code == 0
    copy = tmp_path / "copy"
    assert snapcore(root, "images", "export", NAME, str(copy), "--as", "directory").code == 0
    assert everything(root) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("pull", "127.0.0.1:9/a/b"),
        ("images", "import", "{layout}"),
        ("images", "unpack", NAME),
        ("images", "mount", NAME, "{layout}"),
        ("images", "unmount", "{layout}"),
        ("images", "rm", NAME),
        ("images", "tag", NAME, "other"),
        ("snapshots", "prepare", "key"),
        ("snapshots", "rm", "{chain}"),
        ("snapshots", "label", "{chain}", "a=b"),
        ("content", "rm", "{blob}"),
        ("content", "label", "{blob}", "a=b"),
    ],
    ids=" ".join,
)
def test_what_writes_refuses_in_one_sentence(
    root: Path, chain_id: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    with Node.open(NodeConfig.at(str(root))) as node:
        blob = str(next(node.content.walk()).digest)
    values = {"layout": str(tmp_path / "layout"), "chain": chain_id, "blob": blob}
    outcome = snapcore(root, *(each.format(**values) for each in arguments))
    assert (outcome.code, outcome.out) == (1, "")
    (said,) = outcome.err.splitlines()
    assert said.startswith("snapcore: ")
    assert str(root) in said
    assert "read-only" in said or "reading only" in said or "cannot be written" in said, said


def test_the_node_says_so(root: Path) -> None:
    with Node.open(NodeConfig.at(str(root))) as node:
        assert node.read_only
        with pytest.raises(PermissionDenied, match="read-only"), node.mounted(NAME):
            pass
    assert not (root / "owner").exists() or not list((root / "owner").iterdir())


def test_nothing_is_there_and_nothing_can_be_made(tmp_path: Path) -> None:
    place = tmp_path / "empty"
    place.mkdir()
    mount(str(place), str(place), "", MountFlag.BIND)
    try:
        mount("", str(place), "", MountFlag.BIND | MountFlag.REMOUNT | MountFlag.RDONLY)
        with pytest.raises(NotFound, match="no node at"):
            Node.open(NodeConfig.at(str(place)))
        with pytest.raises(PermissionDenied, match="cannot make directory"):
            Node.open(NodeConfig.at(str(place / "below")))
    finally:
        umount(str(place))


def as_nobody(work: Callable[[], object]) -> object:
    """Do something without privilege, in a forked child; return what came of it as JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        said: object = "died"
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            said = work()
        except SnapcoreError as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, json.dumps(said).encode())
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as report:
        value: object = json.loads(report.read())
    os.waitpid(child, 0)
    return value


@pytest.fixture
def open_to_all(tmp_path: Path, backend: str) -> Iterator[Path]:
    """Fill a root that anybody can get to."""
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        root = Path(top) / "root"
        fill(root, tmp_path, backend)
        # Whatever is imported on the way is imported now: a child may not be able to.
        look(root)
        yield root


def look(root: Path) -> list[object]:
    with Node.open(NodeConfig.at(str(root))) as node:
        refused = ""
        try:
            node.images.tag(NAME, "other")
        except PermissionDenied as error:
            refused = str(error)
        infos = list(node.snapshotter().walk())
        return [node.read_only, len(node.images.list()), len(infos), refused]


def test_without_the_right_to_write_it_is_looked_at(open_to_all: Path) -> None:
    for path in (open_to_all, *open_to_all.rglob("*")):
        os.lchown(path, NOBODY, NOBODY)
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)
    found = as_nobody(lambda: look(open_to_all))
    assert isinstance(found, list), found
    assert found[:3] == [True, 2, 2]
    assert "cannot be written" in found[3]


def test_without_the_right_to_read_it_says_so(open_to_all: Path) -> None:
    found = as_nobody(lambda: look(open_to_all))
    assert found == (
        f"PermissionDenied: root {str(open_to_all)!r} can be neither written nor read by this user"
    )


def test_a_root_whose_last_writer_was_killed(root: Path) -> None:
    """Its database has a log that nobody can fold into it."""
    umount(str(root))
    child = os.fork()
    if not child:
        node = Node.open(NodeConfig.at(str(root)))
        node.images.tag(NAME, "late")
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert (root / "node.db-wal").stat().st_size
    mount(str(root), str(root), "", MountFlag.BIND)
    mount("", str(root), "", MountFlag.BIND | MountFlag.REMOUNT | MountFlag.RDONLY)
    names = snapcore(root, "images", "ls", "-q")
    assert names.out.split() == [NAME, "docker.io/library/late:latest"], names.err
