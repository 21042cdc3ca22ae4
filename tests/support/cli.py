"""Running the command line as users do: in a process of its own, or quickly in this one."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from snapcore.cli.__main__ import run


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one command line did."""

    code: int
    out: str
    err: str

    def json(self) -> object:
        """Return the parsed result."""
        assert self.code == 0, self.err
        value: object = json.loads(self.out)
        return value

    def records(self) -> list[dict[str, object]]:
        """Return the parsed result, which is an array of objects."""
        value = self.json()
        assert isinstance(value, list)
        return value

    def record(self) -> dict[str, object]:
        """Return the parsed result, which is an object."""
        value = self.json()
        assert isinstance(value, dict)
        return value


def spawn(
    *arguments: str, environment: Mapping[str, str] | None = None, patience: int = 180
) -> Outcome:
    """Run `snapcore` in a process of its own, for so many seconds at most."""
    done = subprocess.run(
        [sys.executable, "-m", "snapcore.cli", *arguments],
        env=child_environment(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=patience,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def child_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without what would configure snapcore."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("SNAPCORE_", "_SNAPCORE"))}
    return own | dict(more or {})


def call(*arguments: str) -> Outcome:
    """Run `snapcore` in this process."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(arguments)
        out.flush()
    buffer = out.buffer
    assert isinstance(buffer, io.BytesIO)
    return Outcome(code, buffer.getvalue().decode("utf-8", "surrogateescape"), err.getvalue())
