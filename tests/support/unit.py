"""A unit of systemd's, as far as it confines its service, and the same without systemd."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import support.confine

NAMESPACING: Final = frozenset(
    {
        "PrivateMounts",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateIPC",
        "MountFlags",
        "ProtectSystem",
        "ProtectHome",
        "ProtectProc",
        "ProcSubset",
        "ProtectControlGroups",
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ReadWritePaths",
        "ReadOnlyPaths",
        "InaccessiblePaths",
        "ExecPaths",
        "NoExecPaths",
        "BindPaths",
        "BindReadOnlyPaths",
        "TemporaryFileSystem",
        "RootDirectory",
        "RootImage",
        "MountImages",
        "ExtensionImages",
        "DynamicUser",
        "LogNamespace",
    }
)
"""What gives a service mounts of its own (systemd, src/core/execute.c; systemd.exec(5))."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a service is kept from.

    Attributes:
        capabilities: all that it may have.
        calls: the system calls that it may make.
        families: the address families of its sockets.
        own_mounts: its mount namespace is its own, and mounts come in but do not go out.
    """

    capabilities: Sequence[str]
    calls: Sequence[str]
    families: Sequence[str]
    own_mounts: bool

    def command(self) -> tuple[str, ...]:
        """Return what runs the command after it so confined."""
        return (
            *(sys.executable, support.confine.__file__, ",".join(self.capabilities)),
            *(",".join(self.calls), ",".join(self.families), str(int(self.own_mounts))),
        )


def settings(text: str) -> dict[str, str]:
    """Return the keys of a unit; those given more than once have all their words."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.isalnum():
            found[key] = f"{found[key]} {value}" if key in found else value
    return found


def confinement(text: str) -> Confinement:
    """Return what a unit confines its service to.

    Raises:
        AssertionError: it does not say what `confine` always does.
    """
    found = settings(text)
    always = ("NoNewPrivileges", "MemoryDenyWriteExecute", "RestrictNamespaces", "RestrictRealtime")
    assert all(found[key] == "yes" for key in always)
    return Confinement(
        found["CapabilityBoundingSet"].lower().split(),
        _calls(found["SystemCallFilter"].split()),
        found["RestrictAddressFamilies"].split(),
        any(found.get(key, "no") not in {"no", ""} for key in NAMESPACING),
    )


def _calls(words: Sequence[str]) -> list[str]:
    """Return the system calls that names and groups of systemd's mean."""
    pending, found = list(words), set()
    while pending:
        word = pending.pop()
        if not word.startswith("@"):
            found.add(word)
        elif word not in found:
            found.add(word)
            lines = subprocess.run(
                ("systemd-analyze", "syscall-filter", word),
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()[1:]
            pending += [line.strip() for line in lines if line.strip() and "#" not in line]
    return sorted(each for each in found if not each.startswith("@"))


def unit_text(path: Path) -> str:
    """Return a unit without its comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#")) + "\n"
