"""Mounts as text: a command line for a shell, records for programs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from snapcore.cli.output import Column, Record

if TYPE_CHECKING:
    from snapcore.mount import Mount

COLUMNS = (
    Column("TYPE", "type"),
    Column("SOURCE", "source"),
    Column("TARGET", "target"),
    Column("OPTIONS", "options"),
)


def records(mounts: Sequence[Mount]) -> list[Record]:
    """Return mounts as records, with containerd's names of their members."""
    return [
        {
            "type": mount.type,
            "source": mount.source,
            "target": mount.target,
            "options": mount.options,
        }
        for mount in mounts
    ]


def command_lines(mounts: Sequence[Mount], target: str) -> str:
    """Return the shell commands that mount a list at a directory."""
    return "\n".join(_command_line(mount, target) for mount in mounts)


def _command_line(mount: Mount, target: str) -> str:
    place = os.path.join(target, mount.target.lstrip("/")) if mount.target else target
    words = ["mount", "-t", mount.type, mount.source, place]
    if mount.options:
        words += ["-o", ",".join(mount.options)]
    return shlex.join(words)
