"""A served tree on a real mount: read by programs, under overlayfs, with faults, and at its end."""

from __future__ import annotations

import errno
import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path as FilePath

import pytest
from hypothesis import HealthCheck, given, settings
from support.fuse_server import CROWD, FuseServer, environment, fuse_server
from support.layer_cases import BASE, CASES
from support.layers import (
    Layer,
    Native,
    Overlay,
    detached_overlay,
    entry,
    file,
    folder,
    hardlink,
    symlink,
)
from support.lazy_tables import LazyLayer, lazy, lazy_stack
from support.stacks import built_stacks, stacks
from support.tree_model import Refused, empty_tree, model_apply

from snapcore.archive import EntryType, tree_listing
from snapcore.errors import FailedPrecondition
from snapcore.mount import mounts_below
from snapcore.oci import WhiteoutStyle
from snapcore_fuse.serve import sweep

pytest.importorskip("pyfuse3")
pytestmark = [pytest.mark.needs_root, pytest.mark.xdist_group("fuse-mount")]

DATA = bytes(range(256)) * 5000
TREE: Layer = [
    folder("bin"),
    file("bin/program", FilePath("/bin/true").read_bytes(), mode=0o4755),
    folder("d", mode=0o1777),
    *(file(f"d/f{number}", b"%d" % number * 100) for number in range(300)),
    file("big", DATA),
    file("empty"),
    symlink("link", "d/f1"),
    hardlink("d/again", "big"),
    entry("pipe", EntryType.FIFO, mode=0o600),
    entry("null", EntryType.CHARACTER, mode=0o666, device=(1, 3)),
    entry("owned", data=b"o", ids=(1000, 100), mtime=1_700_000_000_123_456_789, mode=0o600),
    entry("tagged", data=b"t", xattrs={b"user.one": b"1", b"user.two": b""}),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuseServer]:
    with fuse_server(tmp_path_factory.mktemp("fuse")) as started:
        yield started


@pytest.fixture(scope="module")
def tree(server: FuseServer) -> str:
    return server.add(1, lazy(TREE))


def serve_stack(server: FuseServer, first: int, layers: Sequence[LazyLayer]) -> list[str]:
    """Serve layers, the nearest first; return the directories of those that show."""
    shown: list[str] = []
    for position, layer in enumerate(layers):
        lowers = layers[position + 1 :]
        shown.append(server.add(first + len(lowers), layer, lowers))
        if layer.table.opaque(0):
            break
    return shown


@contextmanager
def shown_together(directories: Sequence[str]) -> Iterator[str]:
    """Yield the root of what directories show as layers, the nearest first."""
    if len(directories) == 1:
        yield directories[0]
        return
    merged = detached_overlay(directories)
    try:
        yield f"/proc/self/fd/{merged}/."
    finally:
        os.close(merged)


def test_find_tar_and_cat_see_what_was_unpacked(
    tree: str, tmp_path: FilePath, census: None
) -> None:
    unpacked = Native(str(tmp_path))
    unpacked.apply(TREE)
    with unpacked.mounted() as real:
        assert list(tree_listing(tree)) == list(tree_listing(real))
        for command in (
            ["find", ".", "-printf", "%p %y %m %U:%G %l %T@\n"],
            ["tar", "-c", "--sort=name", "--format=gnu", "--numeric-owner", "."],
            ["sh", "-c", "cat big d/f* link"],
        ):
            wanted, found = (
                subprocess.run(command, cwd=place, capture_output=True, check=True).stdout
                for place in (real, tree)
            )
            assert sorted(found.splitlines()) == sorted(wanted.splitlines()), command


def test_links_of_one_inode_are_one(tree: str) -> None:
    one, two = os.stat(f"{tree}/big"), os.stat(f"{tree}/d/again")
    assert (one.st_ino, one.st_nlink) == (two.st_ino, 2)


def test_what_was_looked_at_is_not_asked_for_again(server: FuseServer, tree: str) -> None:
    def look() -> None:
        for directory, names, files in os.walk(tree):
            for name in (*names, *files):
                os.lstat(os.path.join(directory, name))
        for missing in range(20):
            assert not os.path.lexists(f"{tree}/missing{missing}")
        FilePath(f"{tree}/big").read_bytes()

    look()
    server.counts()
    look()
    again = server.counts()
    # pyfuse3 cannot let the kernel keep names and targets of symlinks, nor leave out opens.
    assert set(again) <= {"opendir", "readdirplus", "readlink", "open", "release"}


def test_closing_is_not_asked_for(server: FuseServer, tree: str) -> None:
    for _ in range(5):
        FilePath(f"{tree}/empty").read_bytes()
    server.counts()
    FilePath(f"{tree}/empty").read_bytes()
    assert server.counts()["flush"] == 0


def test_the_kernel_reads_far_ahead(server: FuseServer) -> None:
    directory = server.add(2, lazy([file("big", DATA * 4)]))
    server.counts()
    assert FilePath(f"{directory}/big").read_bytes() == DATA * 4
    assert server.counts()["read"] <= 10
    device = os.stat(directory).st_dev
    knob = f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb"
    assert FilePath(knob).read_text(encoding="ascii") == "1024\n"


def test_programs_run_and_map_files(tree: str) -> None:
    assert subprocess.run([f"{tree}/bin/program"], check=False).returncode == 0
    with open(f"{tree}/big", "rb") as opened:
        for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
            with mmap.mmap(opened.fileno(), 0, flags=flags, prot=mmap.PROT_READ) as mapped:
                assert mapped[100_000:100_500] == DATA[100_000:100_500]


@pytest.mark.parametrize("name", ["new", "big"])
def test_nothing_can_be_written(tree: str, name: str) -> None:
    with pytest.raises(OSError, match="Read-only"):
        os.close(os.open(f"{tree}/{name}", os.O_WRONLY | os.O_CREAT))
    with pytest.raises(OSError, match="Read-only"):
        os.setxattr(tree, "user.new", b"")


def test_a_hundred_readers_at_once(server: FuseServer) -> None:
    layer = [file(f"f{number}", b"%d " % number * 1000) for number in range(100)]
    directory = server.add(3, lazy(layer))
    server.tell("fault", 3, "crowd")
    with ThreadPoolExecutor(100) as pool:
        read = [pool.submit(FilePath(f"{directory}/f{n}").read_bytes) for n in range(100)]
        assert [each.result() for each in read] == [data for _, data in layer]
    assert int(server.tell("waiting", 3)) >= CROWD


@pytest.mark.parametrize(
    ("fault", "number"),
    [("bug", errno.EIO), ("short", errno.EIO), ("unavailable", errno.ETIMEDOUT)],
)
def test_a_failing_read_is_an_errno_and_the_mount_lives(
    server: FuseServer, fault: str, number: int, tmp_path: FilePath
) -> None:
    snapshot = 10 + number
    directory = server.add(snapshot, lazy([file("f", DATA), file("g", b"g")]))
    server.tell("fault", snapshot, fault)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        FilePath(f"{directory}/f").read_bytes()
    assert caught.value.errno == number
    server.tell("fault", snapshot, "")
    assert FilePath(f"{directory}/f").read_bytes() == DATA
    server.tell("remove", snapshot)


# --- under overlayfs ------------------------------------------------------------------------------


def check_overlay(server: FuseServer, first: int, stack: Sequence[Layer], top: str) -> None:
    real = Overlay(top)
    for layer in stack:
        real.apply(layer)
    shown = serve_stack(server, first, lazy_stack(stack, style=WhiteoutStyle.OVERLAY))
    with real.mounted() as wanted, shown_together(shown) as found:
        assert list(tree_listing(found)) == list(tree_listing(wanted))
    for number in range(len(stack) - len(shown), len(stack)):
        server.tell("remove", first + number)


def test_layers_under_overlayfs_are_what_was_unpacked(
    server: FuseServer, tmp_path: FilePath
) -> None:
    for number, (name, layer, _) in enumerate(CASES):
        if number % 4 == 0 or "opaque" in name or "link-to" in name:
            (tmp_path / name).mkdir()
            check_overlay(server, 1000 + 10 * number, [BASE, layer], str(tmp_path / name))


def test_stacks_under_overlayfs_are_what_was_unpacked(
    server: FuseServer, tmp_path: FilePath
) -> None:
    first = 10_000

    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(stack=stacks() | built_stacks())
    def run(stack: list[Layer]) -> None:
        nonlocal first
        first += 10
        model = empty_tree()
        for position, layer in enumerate(stack):
            try:
                model = model_apply(model, layer)
            except Refused:
                stack = stack[:position]
                break
        if not stack:
            return
        with tempfile.TemporaryDirectory(dir=tmp_path) as top:
            check_overlay(server, first, stack, top)

    run()


IN_NAMESPACE = """
import json, os, sys
from pathlib import Path
from support.fuse_server import fuse_server
from support.layer_cases import BASE, CASES
from support.lazy_tables import lazy_stack
from snapcore.archive import tree_listing
from snapcore.linux import MountFlag, mount, umount
from snapcore.oci import WhiteoutStyle

top, cases, found = Path(sys.argv[1]), {name: layer for name, layer, _ in CASES}, {}
with fuse_server(top) as server:
    for number, name in enumerate(sys.argv[2:], 1):
        own = top / name
        for part in ("upper", "work", "merged"):
            (own / part).mkdir(parents=True)
        upper, base = lazy_stack([BASE, cases[name]], style=WhiteoutStyle.OVERLAY_USER)
        lowers = f"{server.add(2 * number, upper, [base])}:{server.add(2 * number + 1, base)}"
        os.utime(own / "upper", (0, 0))
        options = f"userxattr,lowerdir={lowers},upperdir={own}/upper,workdir={own}/work"
        mount("overlay", str(own / "merged"), "overlay", MountFlag(0), options)
        found[name] = list(tree_listing(str(own / "merged")))
        (own / "merged" / "written").write_bytes(b"w")
        umount(str(own / "merged"))
print(json.dumps(found))
"""


def test_in_a_user_namespace_under_userxattr(tmp_path: FilePath) -> None:
    names = ("opaque-then-child", "whiteout-then-new-directory", "link-to-a-group-below")
    wanted = {}
    for name in names:
        (tmp_path / name).mkdir()
        real = Overlay(str(tmp_path / name))
        real.apply(BASE)
        real.apply(next(layer for case, layer, _ in CASES if case == name))
        with real.mounted() as root:
            wanted[name] = list(tree_listing(root))
    (tmp_path / "lazy").mkdir()
    done = subprocess.run(
        ["unshare", "-Urm", sys.executable, "-c", IN_NAMESPACE, str(tmp_path / "lazy"), *names],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == wanted
    assert (tmp_path / "lazy" / names[0] / "upper" / "written").read_bytes() == b"w"


# --- coming and going -----------------------------------------------------------------------------


def test_trees_come_and_go_while_others_are_read(server: FuseServer, tree: str) -> None:
    directory = f"{server.mountpoint}/77"
    assert not os.path.exists(directory)
    layer = [file("f", DATA), file("g", b"g")]
    server.add(77, lazy(layer))
    with open(f"{directory}/f", "rb") as opened:
        assert opened.read(10) == DATA[:10]
        server.tell("remove", 77)
        deadline = time.monotonic() + 10
        while os.path.exists(directory):  # the kernel is told by another thread
            assert time.monotonic() < deadline
        with pytest.raises(OSError, match="Stale"):
            os.pread(opened.fileno(), 1, len(DATA) - 1)
    assert FilePath(f"{tree}/link").read_bytes() == b"1" * 100
    server.add(78, lazy(layer))
    assert FilePath(f"{server.mountpoint}/78/g").read_bytes() == b"g"
    server.tell("remove", 78)


def test_a_terminated_server_leaves_nothing(tmp_path: FilePath, census: None) -> None:
    with fuse_server(tmp_path) as server:
        directory = server.add(1, lazy([file("f", b"f")]))
        opened = os.open(f"{directory}/f", os.O_RDONLY)
        assert server.stop(signal.SIGTERM) == 0
        with pytest.raises(OSError, match="not connected"):  # it was asked whether to flush
            os.close(opened)
        assert not mounts_below(server.mountpoint)
        assert os.listdir(server.mountpoint) == []


def test_a_server_ends_while_it_waits_for_bytes(tmp_path: FilePath, census: None) -> None:
    with fuse_server(tmp_path) as server, ThreadPoolExecutor(4) as pool:
        directory = server.add(1, lazy([file(f"f{n}", b"f") for n in range(4)]))
        server.tell("fault", 1, "stuck")
        reads = [pool.submit(FilePath(f"{directory}/f{n}").read_bytes) for n in range(4)]
        deadline = time.monotonic() + 10
        while int(server.tell("waiting", 1)) < len(reads):
            assert time.monotonic() < deadline
        assert server.stop(signal.SIGTERM) == 0
        for read in reads:
            with pytest.raises(OSError, match=r"not connected|aborted"):
                read.result(10)
        assert not mounts_below(server.mountpoint)


def test_an_unmounted_server_ends(tmp_path: FilePath, census: None) -> None:
    with fuse_server(tmp_path) as server:
        subprocess.run(["umount", server.mountpoint], check=True)
        assert server.process.wait(10) == 0
        server.stop()


def test_a_dead_mount_is_swept(tmp_path: FilePath, census: None) -> None:
    with fuse_server(tmp_path) as server:
        server.add(1, lazy([]))
        with pytest.raises(FailedPrecondition, match="works"):
            sweep(server.mountpoint)
        server.stop(signal.SIGKILL)
        with pytest.raises(OSError, match="not connected"):
            os.listdir(server.mountpoint)
        assert sweep(server.mountpoint)
        assert os.listdir(server.mountpoint) == []
        assert not sweep(server.mountpoint)


def test_what_cannot_be_mounted_says_why(tmp_path: FilePath) -> None:
    program = [sys.executable, "-m", "support.fuse_server", str(tmp_path / "nowhere")]
    done = subprocess.run(
        program,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert "NotFound" in done.stderr
    assert "nowhere" in done.stderr
