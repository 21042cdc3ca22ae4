"""What a process gives up; each in a child, since there is no way back."""

from __future__ import annotations

import signal

import pytest
from support.kernel import in_child

from snapcore.linux import Cap, Namespace, unshare


def _status(field: str) -> str:
    return f"""
def status(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return line.split()[1]
print(status({field!r}))
"""


def test_effective_capabilities_are_those_of_the_status_file() -> None:
    done = in_child(f"print(sorted(effective_capabilities()))\n{_status('CapEff')}")
    numbers, mask = done.stdout.splitlines()
    assert numbers == str([n for n in range(64) if int(mask, 16) >> n & 1])


@pytest.mark.needs_root
def test_capabilities_are_dropped_from_every_set() -> None:
    script = """
keep_capabilities((Cap.CHOWN, Cap.SETFCAP))
print(sorted(effective_capabilities()))
for line in open("/proc/self/status"):
    if line.startswith("Cap"):
        print(*line.split())
"""
    numbers, *sets = in_child(script).stdout.splitlines()
    assert numbers == str([int(Cap.CHOWN), int(Cap.SETFCAP)])
    kept = f"{1 << Cap.CHOWN | 1 << Cap.SETFCAP:016x}"
    assert dict(line.split(": ") for line in sets) == {
        "CapInh": "0" * 16,
        "CapPrm": kept,
        "CapEff": kept,
        "CapBnd": kept,
        "CapAmb": "0" * 16,
    }


@pytest.mark.needs_root
def test_what_was_dropped_does_not_come_back() -> None:
    script = """
keep_capabilities((Cap.CHOWN,))
try:
    keep_capabilities((Cap.CHOWN, Cap.SYS_ADMIN))
except PermissionError:
    print("refused", sorted(effective_capabilities()))
"""
    assert in_child(script).stdout == "refused [0]\n"


def test_no_new_privileges() -> None:
    assert in_child(f"set_no_new_privileges()\n{_status('NoNewPrivs')}").stdout == "1\n"


def test_not_dumpable_files_in_proc_are_of_root() -> None:
    script = """
import ctypes
set_not_dumpable()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
    assert in_child(script).stdout == "0\n"


def test_a_child_dies_with_its_parent() -> None:
    script = """
import signal
ready, tell = os.pipe()
if not os.fork():
    set_parent_death_signal(signal.SIGKILL)
    os.write(tell, b"1")
    signal.pause()
os.read(ready, 1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    # The child holds the output open, which is read to its end: were it alive, for ever.
    assert in_child(script, check=False).returncode == -signal.SIGKILL


@pytest.mark.needs_root
def test_unshare_gives_a_thread_its_own_working_directory() -> None:
    script = """
import threading
def run():
    unshare(Namespace.FS)
    os.chdir("/proc")
    seen.append(os.getcwd())
seen, before = [], os.getcwd()
thread = threading.Thread(target=run)
thread.start()
thread.join()
print(seen, os.getcwd() == before)
"""
    assert in_child(script).stdout == "['/proc'] True\n"


def test_unshare_needs_privilege() -> None:
    script = """
if Cap.SYS_ADMIN in effective_capabilities():
    keep_capabilities(())
try:
    unshare(Namespace.MOUNT)
except PermissionError as error:
    print(error.strerror)
"""
    assert in_child(script).stdout == "Operation not permitted\n"
    with pytest.raises(OSError, match="Invalid argument"):
        unshare(Namespace(1 << 3))
