"""The daemon of a state root: alone, reachable, restartable, and gone without a trace."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.nodes import Watched

from snapcore.errors import (
    ContractError,
    DataLoss,
    InvalidArgument,
    NotFound,
    SnapcoreError,
    Unavailable,
)
from snapcore.linux import UnmountFlag, umount
from snapcore.mount import is_mount_point, mounts_below
from snapcore.snapshots import no_checkpoint
from snapcore_fuse.daemon.address import reached
from snapcore_fuse.daemon.client import Daemon
from snapcore_fuse.daemon.messages import Build, Failed, Layer, decode_answer, decode_request
from snapcore_fuse.daemon.places import Places
from snapcore_fuse.daemon.record import SourceRecord
from snapcore_fuse.settings import Settings

pytestmark = pytest.mark.needs_root

LAYER = Layer(
    image="localhost:1/repo:latest",
    manifest="sha256:" + "a" * 64,
    digest="sha256:" + "b" * 64,
    diff_id="sha256:" + "c" * 64,
)
RECORD = SourceRecord(
    layer=LAYER,
    media_type="application/vnd.oci.image.layer.v1.tar+gzip",
    size=10,
    format="estargz",
    index="sha256:" + "d" * 64,
)


@pytest.fixture
def places(tmp_path: Path, census: None) -> Iterator[Places]:
    # A root with a longer name than the address of a socket can have.
    root = tmp_path / ("root" + "-" * 100)
    (root / "snapshots").mkdir(parents=True)
    made = Places(str(root))
    yield made
    Daemon(made, Settings()).stop()
    assert mounts_below(str(tmp_path)) == ()


def test_one_daemon_answers_all_who_start_it_at_once(places: Places) -> None:
    pids = []

    def ensure() -> None:
        pids.append(Daemon(places, Settings()).ensure().pid)

    threads = [threading.Thread(target=ensure) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 4
    assert len(set(pids)) == 1
    assert is_mount_point(places.mount)
    assert stat.S_IMODE(os.stat(places.directory).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(places.socket).st_mode) == 0o600


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_leaves_nothing(places: Places, number: signal.Signals) -> None:
    watched = Watched(Daemon(places, Settings()).ensure().pid)
    os.kill(watched.pid, number)
    assert watched.wait()
    watched.close()
    assert mounts_below(places.root) == ()
    left = os.listdir(places.directory)
    assert not {"mnt", "control", "serving"} & set(left)
    assert os.listdir(os.path.join(places.directory, "owner")) == []


def test_a_killed_one_is_swept_and_replaced(places: Places) -> None:
    daemon = Daemon(places, Settings())
    watched = Watched(daemon.ensure().pid)
    os.kill(watched.pid, signal.SIGKILL)
    assert watched.wait()
    with pytest.raises(OSError, match="not connected"):
        os.statvfs(places.mount)
    assert daemon.ensure().pid != watched.pid
    assert len(mounts_below(places.mount)) == 1
    watched.close()


def test_one_whose_mount_was_taken_away_is_replaced(places: Places) -> None:
    daemon = Daemon(places, Settings())
    first = daemon.ensure()
    umount(places.mount, UnmountFlag.DETACH)
    assert daemon.ensure().pid != first.pid
    assert is_mount_point(places.mount)


def test_a_mount_in_another_namespace_is_said_to_be_there(places: Places) -> None:
    pid = Daemon(places, Settings()).ensure().pid
    child = """
import sys
from snapcore.errors import FailedPrecondition
from snapcore.linux import Namespace, unshare
from snapcore.mount import unmount
from snapcore_fuse.daemon.client import Daemon
from snapcore_fuse.daemon.places import Places
from snapcore_fuse.settings import Settings
unshare(Namespace.MOUNT)
places = Places(sys.argv[1])
unmount(places.mount, detach=True)
try:
    Daemon(places, Settings()).ensure()
except FailedPrecondition as error:
    print(error)
"""
    command = [sys.executable, "-c", child, places.root]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"another mount namespace, that of process {pid}" in done.stdout


def test_what_keeps_it_from_starting_is_told(places: Places) -> None:
    Path(places.directory).mkdir()
    Path(places.cache).write_text("not a directory")
    with pytest.raises(Unavailable, match=r"cannot be started:.*cache"):
        Daemon(places, Settings()).ensure()
    assert mounts_below(places.root) == ()


def ask_raw(places: Places, line: bytes) -> bytes:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
        reached(places.socket) as address,
    ):
        connection.connect(address)
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answer:
            return answer.read()


@pytest.mark.parametrize("line", [b"{}\n", b"\xff\n", b'{"type":"Build"}\n', b"no newline", b""])
def test_nonsense_is_refused_and_the_daemon_goes_on(places: Places, line: bytes) -> None:
    daemon = Daemon(places, Settings())
    pid = daemon.ensure().pid
    answer = ask_raw(places, line)
    if answer:
        failed = decode_answer(answer)
        assert isinstance(failed, Failed)
        assert failed.kind == "ContractError"
    assert daemon.ensure().pid == pid


@pytest.mark.parametrize("directory", ["/", "{root}", "{root}/snapshots", "{root}/snapshots/9/.."])
def test_it_writes_into_directories_of_snapshots_only(places: Places, directory: str) -> None:
    daemon = Daemon(places, Settings())
    daemon.ensure()
    place = directory.format(root=places.root)
    with pytest.raises(InvalidArgument, match="not the directory of a snapshot"):
        daemon.resolve(place, LAYER, no_checkpoint)
    with pytest.raises(InvalidArgument, match="not the directory of a snapshot"):
        daemon.build(Build(9, place, (), "overlay"), no_checkpoint)


def test_a_caller_that_goes_away_is_not_waited_for(places: Places) -> None:
    class Gone(SnapcoreError):
        pass

    def gone() -> None:
        raise Gone

    os.mkdir(places.snapshot(1))
    silent = socket.create_server(("127.0.0.1", 0))
    layer = replace_image(LAYER, f"127.0.0.1:{silent.getsockname()[1]}/repo:latest")
    daemon = Daemon(places, Settings())
    daemon.ensure()
    with silent, pytest.raises(Gone):
        daemon.resolve(places.snapshot(1), layer, gone)
    assert daemon.ensure().served == 0


def replace_image(layer: Layer, image: str) -> Layer:
    return Layer(image=image, manifest=layer.manifest, digest=layer.digest, diff_id=layer.diff_id)


def test_a_snapshot_that_is_not_served_has_no_status(places: Places) -> None:
    daemon = Daemon(places, Settings())
    with pytest.raises(Unavailable):
        daemon.status(1)
    daemon.ensure()
    with pytest.raises(NotFound, match="no lazy snapshot 1"):
        daemon.status(1)
    daemon.remove(1)


def test_a_damaged_layer_is_left_out_and_the_rest_is_served(places: Places) -> None:
    os.makedirs(os.path.join(places.snapshot(1), "lazy"))
    for name in ("table", "index", "source.json"):
        Path(places.snapshot(1), "lazy", name).write_text("damaged")
    assert Daemon(places, Settings()).ensure().served == 0
    assert "lazy snapshot 1 cannot be served" in Path(places.log).read_text()


def test_a_record_is_read_back_or_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "source.json"
    with pytest.raises(NotFound):
        SourceRecord.read(str(path))
    RECORD.write(str(path))
    assert SourceRecord.read(str(path)) == RECORD
    assert str(RECORD.descriptor.digest) == LAYER.digest
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataLoss, match="damaged"):
        SourceRecord.read(str(path))


def test_errors_are_the_same_class_on_the_other_side() -> None:
    from snapcore_fuse.daemon.messages import failure, revive

    for error in (Unavailable("a"), DataLoss("b"), NotFound("c")):
        again = revive(failure(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
    assert isinstance(revive(Failed("OSError", "x")), ContractError)
    with pytest.raises(ContractError, match="asked nonsense"):
        decode_request(b"[]")
