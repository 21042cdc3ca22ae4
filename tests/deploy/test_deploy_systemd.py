"""The unit: systemd takes it, and the service works and is seen in what it leaves of the system."""

from __future__ import annotations

import ctypes.util
import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc
import pytest
from support.images import require_tools, run_tool
from support.layout import File
from support.lazyimages import BIG, Image, LazyPlace, estargz_layer, lazy_place
from support.serve import running
from support.service import Client, mounted, refused
from support.unit import NAMESPACING, confinement, settings, unit_text

from snapcore.mount import mounts_below, temporary_mount
from snapcore.snapshots import probe_snapshotter

UNIT: Final = Path(__file__).resolve().parents[2] / "deploy/systemd/snapcore.service"
EXPOSURE: Final = 5.2
"""Most of systemd's own rating: 10 is a service with no option set. Most of what would make it less
gives the service mounts of its own."""

_PACKETS: Final = "import socket; socket.socket(socket.AF_PACKET)"
_WRITE_AND_RUN: Final = "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return the unit with a program that is there."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/usr/local/bin/snapcore", "/bin/true"))
    socket = UNIT.with_suffix(".socket")
    (tmp_path / socket.name).write_text(socket.read_text())
    return path


@pytest.mark.parametrize("suffix", [".service", ".socket"])
def test_systemd_takes_it(unit: Path, suffix: str) -> None:
    require_tools("systemd-analyze")
    done = subprocess.run(
        (
            "systemd-analyze",
            "verify",
            "--man=no",
            "--recursive-errors=no",
            str(unit.with_suffix(suffix)),
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_systemds_rating(unit: Path, record_property: Callable[[str, object], None]) -> None:
    require_tools("systemd-analyze")
    done = subprocess.run(
        ("systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)),
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    record_property("shown", f"systemd rates the unit's exposure {found[1]} of 10")
    assert float(found[1]) <= EXPOSURE


def test_nothing_gives_it_mounts_of_its_own() -> None:
    """And the comment that names what would names all of it."""
    assert NAMESPACING.isdisjoint(settings(unit_text(UNIT)))
    assert set(re.findall(r"\w+", UNIT.read_text())) >= NAMESPACING


def test_the_socket_is_the_services() -> None:
    listener = settings(unit_text(UNIT.with_suffix(".socket")))
    assert settings(unit_text(UNIT))["ExecStart"].endswith(f" --address {listener['ListenStream']}")
    assert (listener["SocketMode"], listener["DirectoryMode"]) == ("0600", "0700")


def test_the_way_it_runs() -> None:
    found = settings(unit_text(UNIT))
    assert found["Type"] == "notify"
    assert found["KillMode"] == "process"
    assert found["Restart"] == "always"
    assert int(found["OOMScoreAdjust"]) < -900
    assert int(found["TimeoutStopSec"]) > 5


@contextmanager
def shared(directory: Path) -> Iterator[None]:
    """Have mounts below a directory propagate, as they do on a host with systemd."""
    run_tool("mount", "--bind", str(directory), str(directory))
    try:
        run_tool("mount", "--make-shared", str(directory))
        yield
    finally:
        run_tool("umount", str(directory))


@pytest.fixture
def confined() -> None:
    for name in ("seccomp", "cap"):
        if not ctypes.util.find_library(name):
            pytest.skip(f"not installed: lib{name}")
    require_tools("systemd-analyze")


@pytest.fixture
def place(tmp_path: Path, confined: None) -> Iterator[LazyPlace]:
    pytest.importorskip("pyfuse3", reason="not installed: pyfuse3, of snapcore-fuse")
    with shared(tmp_path), lazy_place(tmp_path) as place:
        yield place


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("command", "said"),
    [
        pytest.param(("unshare", "--mount", "true"), "Operation not permitted", id="namespace"),
        pytest.param(("python3", "-c", _PACKETS), "Address family not supported", id="family"),
        pytest.param(("python3", "-c", _WRITE_AND_RUN), "Permission denied", id="memory"),
        pytest.param(("chrt", "--fifo", "1", "true"), "Operation not permitted", id="realtime"),
        pytest.param(("date", "--set=@0"), "Operation not permitted", id="call"),
    ],
)
def test_what_the_unit_forbids(command: tuple[str, ...], said: str, confined: None) -> None:
    """As far as we can do what systemd would."""
    by = confinement(unit_text(UNIT)).command()
    done = subprocess.run((*by, *command), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("more", "seen"),
    [
        pytest.param("", True, id="unit"),
        pytest.param("ProtectSystem=strict\n", False, id="with-mounts-of-its-own"),
    ],
)
def test_mounts_are_seen_outside_of_the_service(place: LazyPlace, more: str, seen: bool) -> None:
    image = Image(place, estargz_layer(place.builder, File("etc/motd", b"hello\n"), File("b", BIG)))
    config = place.directory / "config.toml"
    config.write_text("[plugins.fuse]\nmin_layer_size = 1\n")
    by = confinement(unit_text(UNIT) + more).command()
    flags = ("--config", str(config), "--snapshotter", "fuse")
    with running(place.directory, *flags, by=by) as (service, client):
        confined = Path(f"/proc/{service.process.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in confined
        assert "Seccomp:\t2" in confined
        ((_, source, options),) = lazy_view(client, image)
        assert "ro" in options
        assert bool(mounts_below(str(service.root))) is seen
        assert Path(source, "etc/motd").exists() is seen
        if seen:
            assert Path(source, "etc/motd").read_bytes() == b"hello\n"
            assert Path(source, "b").read_bytes() == BIG
        client.remove("view")
        client.remove(image.names[0])


@pytest.mark.needs_root
@pytest.mark.parametrize("backend", ["overlay", "native"])
def test_backends_work_in_what_the_unit_leaves(
    backend: str, tmp_path: Path, confined: None
) -> None:
    """Owners, modes and devices of what a layer has, among them: native copies them."""
    probe = probe_snapshotter(backend, str(tmp_path / "probe"))
    if not probe.usable:
        pytest.skip(f"{backend} does not work here: {probe.reason}")
    by = confinement(unit_text(UNIT)).command()
    with shared(tmp_path), running(tmp_path, "--snapshotter", backend, by=by) as (_, client):
        with temporary_mount(mounted(client.prepare("extract"))) as root:
            program, device = Path(root, "program"), Path(root, "device")
            program.write_bytes(b"x")
            os.chown(program, 1234, 5678)
            program.chmod(0o4755)
            os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        client.commit("base", "extract")
        with temporary_mount(mounted(client.prepare("container", "base"))) as root:
            found = os.stat(f"{root}/program")
            assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 5678, 0o4755)
            assert os.stat(f"{root}/device").st_rdev == os.makedev(1, 3)
        for name in ("container", "base"):
            client.remove(name)
        client.cleanup()


def lazy_view(client: Client, image: Image) -> list[tuple[str, str, list[str]]]:
    with refused(grpc.StatusCode.ALREADY_EXISTS):
        client.prepare("extract", "", image.labels(0))
    return client.view("view", image.names[0])
