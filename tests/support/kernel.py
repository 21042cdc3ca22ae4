"""Kernels that refuse or lack something, and scripts that run in a process of their own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from snapcore.linux import fsconfig_string
from snapcore.mount import overlay as overlay_module

OLD_KERNELS = ("no mount API", "any option at first", "no lowerdir+")
"""Linux before 5.2, 5.2 to 6.4, and 6.5 to 6.7, in what they make of `lowerdir+`."""


def pretend(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    """Have the calls that make an overlay answer as an older kernel's; mount(2) is untouched."""

    def fail(number: int, what: str) -> int:
        raise OSError(number, os.strerror(number), what)

    def string(context: int, key: str, value: str) -> None:
        if key != "lowerdir+":
            fsconfig_string(context, key, value)
        elif kernel == "no lowerdir+":
            fail(errno.EINVAL, value)

    monkeypatch.setattr(overlay_module, "fsconfig_string", string)
    if kernel == "no mount API":
        monkeypatch.setattr(overlay_module, "fsopen", lambda name: fail(errno.ENOSYS, name))
    if kernel == "any option at first":
        monkeypatch.setattr(
            overlay_module, "fsconfig_create", lambda context: fail(errno.EINVAL, "")
        )


@contextmanager
def refused(*numbers: int, path: str | bytes | None = None) -> Iterator[None]:
    """Fail unless the block raises OSError with one of these numbers, and with this file name.

    Args:
        numbers: of errno(3).
        path: what the error must name; None for whatever.
    """
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        yield
    assert caught.value.errno in numbers, caught.value
    assert path is None or caught.value.filename == path


_ENTER = """
import os, sys
from snapcore.linux import Namespace, unshare
unshare(Namespace.USER)
os.write(1, b"\\n")
os.read(0, 1)
unshare(Namespace.MOUNT)
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""
ONE_ID = "0 0 1\n"
MANY_IDS = "0 0 65536\n"
"""Maps of a user namespace: root alone, and as many ids as newuidmap(1) commonly gives."""


def in_user_namespace(ids: str, script: str, *arguments: str) -> str:
    """Run a script as root of a user and mount namespace of its own; return what it printed.

    Skips the test where there are no user namespaces.

    Args:
        ids: the map of users and of groups.
        script: Python source; may import what this process can.
        arguments: its `sys.argv[1:]`.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", _ENTER, script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    with child:
        assert child.stdout is not None
        if not child.stdout.readline():
            pytest.skip(f"no user namespaces here: {child.communicate()[1]}")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{child.pid}/{name}", "w", encoding="ascii") as file:
                file.write(ids)
        out, err = child.communicate("\n", timeout=300)
    assert child.returncode == 0, err
    return out


def in_child(
    script: str, *arguments: str, inside: tuple[str, ...] = (), check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a script that finds all of `snapcore.linux` imported.

    Args:
        script: Python source.
        arguments: its `sys.argv[1:]`.
        inside: a command that runs it, such as `unshare`.
        check: fail unless it exits with 0, showing what it wrote.
    """
    source = f"import os, sys\nfrom snapcore.linux import *\n{script}"
    done = subprocess.run(
        [*inside, sys.executable, "-c", source, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=_environment(),
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
