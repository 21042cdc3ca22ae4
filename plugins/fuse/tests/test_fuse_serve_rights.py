"""What a served layer lets whom do is what the unpacked one does."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.fuse_server import FuseServer, environment, fuse_server
from support.layers import Layer, Native, entry, file, folder
from support.lazy_tables import lazy

from snapcore.archive import EntryType
from snapcore.mount import Mount, temporary_mount

pytest.importorskip("pyfuse3")
pytestmark = [pytest.mark.needs_root, pytest.mark.xdist_group("fuse-mount")]

# For the owner, user 2000, the group, group 3000, the mask and others (posix_acl_xattr.h).
NAMED_ACL = bytes.fromhex(
    "02000000 01000600ffffffff 02000400d0070000 04000000ffffffff"
    " 08000600b80b0000 10000600ffffffff 20000000ffffffff"
)
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
LAYER: Layer = [
    folder(""),
    entry("mine", data=b"x", mode=0o600, ids=(1000, 100)),
    entry("group", data=b"x", mode=0o040, ids=(1000, 100)),
    entry("acl", data=b"x", mode=0o660, xattrs={b"system.posix_acl_access": NAMED_ACL}),
    folder("closed", mode=0o700),
    file("closed/inside", b"x", mode=0o644),
    entry("id", data=Path("/usr/bin/id").read_bytes(), mode=0o4755, ids=(1000, 100)),
    entry("capable", data=b"x", mode=0o755, xattrs={b"security.capability": CAPABILITY}),
    entry("null", EntryType.CHARACTER, mode=0o666, device=(1, 3)),
]
PEOPLE = [(0, 0), (1000, 5), (5, 100), (2000, 5), (5, 3000), (5, 5)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuseServer]:
    with fuse_server(tmp_path_factory.mktemp("rights")) as started:
        yield started


@pytest.fixture(scope="module")
def places(server: FuseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[str]]:
    """Yield the layer unpacked, served, and served under overlayfs."""
    real = Native(str(tmp_path_factory.mktemp("real")))
    real.apply(LAYER)
    served = server.add(1, lazy(LAYER))
    lowers = f"lowerdir={server.add(2, lazy([folder('')]))}:{served}"
    overlay = Mount("overlay", "overlay", options=("ro", lowers))
    with real.mounted() as unpacked, temporary_mount([overlay]) as merged:
        yield unpacked, served, merged


def run_as(person: tuple[int, int], place: str, *command: str) -> tuple[int, bytes]:
    # The directory is entered before the user changes: tests run where nobody else may go.
    directory = os.open(place, os.O_RDONLY)
    try:
        done = subprocess.run(
            command,
            cwd=f"/proc/self/fd/{directory}",
            pass_fds=[directory],
            user=person[0],
            group=person[1],
            extra_groups=[],
            capture_output=True,
            check=False,
        )
    finally:
        os.close(directory)
    return done.returncode, done.stdout


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("name", ["mine", "group", "acl", "closed/inside"])
def test_who_may_read_what(places: Sequence[str], name: str, person: tuple[int, int]) -> None:
    unpacked, *others = [run_as(person, place, "cat", name) for place in places]
    assert others == [unpacked, unpacked]


def test_an_acl_is_more_than_its_mode(places: Sequence[str]) -> None:
    allowed = [run_as(person, places[1], "cat", "acl")[0] == 0 for person in PEOPLE]
    assert allowed == [True, False, False, True, True, False]


def test_a_setuid_program_runs_as_it_does_unpacked(places: Sequence[str]) -> None:
    # As its owner, unless the host forbids that to all of this test.
    unpacked, *others = [run_as((5, 5), place, "./id", "-u") for place in places]
    assert others == [unpacked, unpacked]
    assert not os.statvfs(places[1]).f_flag & (os.ST_NOSUID | os.ST_NODEV)


def test_a_device_is_one(places: Sequence[str]) -> None:
    for place in places:
        with open(f"{place}/null", "wb") as null:
            assert stat.S_ISCHR(os.fstat(null.fileno()).st_mode)
            assert null.write(b"x") == 1


def test_a_capability_is_there(places: Sequence[str]) -> None:
    for place in places:
        assert os.getxattr(f"{place}/capable", "security.capability") == CAPABILITY
        assert os.getxattr(f"{place}/acl", "system.posix_acl_access") == NAMED_ACL


def test_without_privilege_it_says_that_it_cannot_mount(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "-U", sys.executable, "-m", "support.fuse_server", str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert "FailedPrecondition" in done.stderr
    assert "/dev/fuse" in done.stderr
