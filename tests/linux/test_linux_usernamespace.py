"""A user namespace for its maps: what it maps, what is refused, and in a threaded process."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import threading
from pathlib import Path

import pytest
from support.kernel import in_child, refused

from snapcore.linux import (
    MountAttr,
    mount_setattr,
    open_tree,
    user_namespace,
)
from snapcore.linux import usernamespace as module

pytestmark = pytest.mark.needs_root

_MAP = "0 100000 1000\n1000 300000 10\n"


def test_it_is_another_namespace_and_its_maps_count(tmp_path: Path, census: None) -> None:
    (tmp_path / "file").touch()
    os.chown(tmp_path / "file", 1003, 7)
    clone = open_tree(str(tmp_path))
    with user_namespace(_MAP, "0 200000 10\n") as namespace:
        assert os.fstat(namespace).st_ino != os.stat("/proc/self/ns/user").st_ino
        assert not os.get_inheritable(namespace)
        mount_setattr(clone, MountAttr.IDMAP, user_namespace=namespace)
    status = os.stat("file", dir_fd=clone)
    os.close(clone)
    assert (status.st_uid, status.st_gid) == (300_003, 200_007)


@pytest.mark.parametrize("bad", ["0 0 0\n", "0 100000 10\n5 200000 10\n", "nonsense\n"])
def test_maps_that_the_kernel_refuses_leave_nothing(census: None, bad: str) -> None:
    for maps in ((bad, _MAP), (_MAP, bad)):
        with refused(errno.EINVAL), user_namespace(*maps):
            pass


def test_without_privilege_maps_of_others_are_refused() -> None:
    script = """
keep_capabilities(())
try:
    with user_namespace("0 0 10\\n", "0 0 10\\n"):
        print("made")
except PermissionError as error:
    print(error.strerror)
"""
    assert in_child(script).stdout == "Operation not permitted\n"


def test_many_threads_make_them_at_once(census: None) -> None:
    made: list[int] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        for _ in range(5):
            with user_namespace(_MAP, _MAP) as namespace:
                made.append(os.fstat(namespace).st_ino)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 40


def test_signals_are_as_before_and_nobody_hears_of_the_child(census: None) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    heard: list[int] = []
    handler = signal.signal(signal.SIGCHLD, lambda number, _frame: heard.append(number))
    try:
        with user_namespace(_MAP, _MAP):
            pass
    finally:
        signal.signal(signal.SIGCHLD, handler)
    assert heard == []
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_it_holds_no_lock_of_the_parent(tmp_path: Path, census: None) -> None:
    """What the parent closes is closed, whoever is still there."""
    with open(tmp_path / "lock", "w") as held, open(tmp_path / "lock") as other:
        fcntl.flock(held, fcntl.LOCK_EX)
        child = module._sleeping_child()
        try:
            held.close()
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, module._WAIT_ALL)
