"""Where the socket is: nobody else's, and one process at a time."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from snapcore.errors import FailedPrecondition, InvalidArgument, SnapcoreError
from snapcore.service.address import claimed, socket_path


@pytest.mark.parametrize("address", ["/run/x/s", "unix:///run/x/s", "unix:/run/x/s"])
def test_forms_of_an_address(address: str) -> None:
    assert socket_path(address) == "/run/x/s"


def test_a_relative_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert socket_path("d/s") == str(tmp_path / "d/s")


@pytest.mark.parametrize("address", ["", "unix:", "tcp://0.0.0.0:1", "a\0b", "/" + "x" * 107])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(InvalidArgument):
        socket_path(address)


def test_the_directory_is_made_for_nobody_else(tmp_path: Path, census: None) -> None:
    path = tmp_path / "a/b/s"
    with claimed(str(path)):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o711, 0o1777])
def test_a_directory_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(FailedPrecondition, match="yours alone"), claimed(str(directory / "s")):
        pass


def test_a_second_server_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "d/s")
    with claimed(path), pytest.raises(FailedPrecondition, match="another process"), claimed(path):
        pass
    with claimed(path):
        pass


def test_the_socket_of_a_dead_process_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(path)
        other.listen()
        with pytest.raises(FailedPrecondition, match="another process"), claimed(path):
            pass
        assert os.path.exists(path)
    with claimed(path):
        assert not os.path.exists(path)


def test_a_process_that_takes_no_more_connections_is_not_waited_for(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = str(tmp_path / "s")
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) for _ in range(2)
        ]
        sockets[0].bind(path)
        sockets[0].listen(0)
        sockets[1].connect(path)
        with pytest.raises(FailedPrecondition, match="another process"), claimed(path):
            pass


def test_a_lock_file_that_is_none_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "s"
    (tmp_path / "s.lock").mkdir()
    with pytest.raises(SnapcoreError, match=r"lock file '.*s.lock'"), claimed(str(path)):
        pass


def test_who_takes_the_directory_away_changes_nothing(tmp_path: Path, census: None) -> None:
    directory = tmp_path / "d"
    with claimed(str(directory / "s")):
        shutil.rmtree(directory)


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(FailedPrecondition, match="not a socket"), claimed(str(path)):
        pass
    assert path.read_text() == "precious"
