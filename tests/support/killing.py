"""Killing command lines at numbered points, each on a fresh copy of a prepared root."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from snapcore.cli.__main__ import run as run_command
from snapcore.config import NodeConfig
from snapcore.faults import VARIABLE, WIDTH, arm_as_told
from snapcore.linux import UnmountFlag, umount
from snapcore.locks import owner_alive
from snapcore.mount import mounts_below
from snapcore_fuse.daemon.client import Daemon
from snapcore_fuse.daemon.places import Places
from snapcore_fuse.settings import Settings
from support.aftermath import Again, Leftovers, Right, Root, right_of, settle
from support.cli import call, child_environment
from support.nodes import until
from support.warm import Killed, Warm

_KILLED: Final = -9


@dataclass(frozen=True, slots=True)
class Scenario:
    """A verb, and what there is before it.

    Attributes:
        name: for people.
        before: command lines; {image} and {chain} are replaced.
        verb: the command line that is killed.
        codes: how it may end when it is done once more.
        prepare: what else is done to the root before.
    """

    name: str
    before: tuple[str, ...]
    verb: str
    codes: tuple[int, ...] = (0,)
    prepare: Callable[[Root], None] = lambda root: None


def _write_into_active(root: Root) -> None:
    """Put a file into what will be committed or removed."""
    (row,) = (row for row in root.rows() if row.kind == "active")
    (root.store / f"snapshots/{row.id}/fs/file").write_bytes(b"written by hand\n")


def _make_old(root: Root) -> None:
    """Give the node's database the schema that it had at first."""
    with closing(sqlite3.connect(root.path / "node.db")) as database:
        for table in ("lease_resources", "leases", "condemned"):
            database.execute(f"DROP TABLE {table}")
        database.execute("ALTER TABLE images DROP COLUMN used")
        database.execute("PRAGMA user_version = 1")
        database.commit()


_PULL: Final = "pull --plain-http {image}"
SCENARIOS: Final = (
    Scenario("pull", (), _PULL),
    Scenario("unpack", (f"{_PULL} --no-unpack",), "images unpack {image}"),
    Scenario(
        "commit",
        (_PULL, "snapshots prepare work {chain}"),
        "snapshots commit done work",
        (0, 4),
        _write_into_active,
    ),
    Scenario(
        "images commit",
        (_PULL, "snapshots prepare work {chain}"),
        "images commit work localhost/new",
        (0, 4),
        _write_into_active,
    ),
    Scenario(
        "remove",
        (_PULL, "snapshots prepare work {chain}", "snapshots view look {chain}"),
        "snapshots rm look work",
        (0, 3),
        _write_into_active,
    ),
    Scenario("rm --sync", (_PULL,), "images rm --sync {image}", (0, 3)),
    Scenario("gc", (_PULL, "images rm {image}"), "gc"),
    Scenario("migration", (_PULL,), "images ls", prepare=_make_old),
)


@dataclass
class Count:
    """What a sweep has found.

    Attributes:
        points: there are in one run that nothing happens to.
        killed: runs in which a process was killed.
        left: what they left.
    """

    points: int = 0
    killed: int = 0
    left: Leftovers = field(default_factory=Leftovers)


@dataclass(frozen=True, slots=True)
class Injection:
    """What strace does to system calls.

    Attributes:
        calls: their names; a `?` before one that some machines do not have.
        effect: `error=EIO` instead of the call, or `signal=KILL` once it is done.
        when: at which of a thread's calls, from 1.
    """

    calls: tuple[str, ...]
    effect: str
    when: int


@dataclass(frozen=True, slots=True)
class Injected:
    """What came of an injection.

    Attributes:
        injection: which.
        code: how the command ended.
        said: on stderr.
        log: the calls, one a line, in the order in which they ended.
        left: what it left.
    """

    injection: Injection
    code: int
    said: str
    log: str
    left: Leftovers

    @property
    def happened(self) -> bool:
        """Whether there was such a call."""
        # Idle workers are killed by their parent in any pull.
        mark = "(INJECTED)" if self.injection.effect.startswith("error") else "killed by SIGKILL"
        return mark in self.log


@dataclass(frozen=True, slots=True)
class _Ready:
    """A prepared scenario."""

    fresh: Path | None
    right: Right
    again: Again


class Sweeper:
    """Kills verbs on one backend.

    Args:
        warm: starts the processes.
        directory: an empty one, for roots.
        backend: whose.
        names: of the image and its top snapshot, for command lines.
    """

    def __init__(self, warm: Warm, directory: Path, backend: str, names: Mapping[str, str]) -> None:
        self._warm: Final = warm
        self._directory: Final = directory
        self._names: Final = names
        options = {"fuse": {"min_layer_size": 1}}
        self._config_file: Final = directory / "config.toml"
        host = names["image"].partition("/")[0]
        self._config_file.write_text(
            f'[plugins.fuse]\nmin_layer_size = 1\n[registry]\nplain_http = ["{host}"]\n'
        )
        config = NodeConfig(
            root=str(directory / "root"),
            state=str(directory / "root/state"),
            snapshotters=(backend,),
            plugins=options,
        )
        self._root: Final = Root(config, backend)
        self._points: Final = directory / "points"
        self._prepared: Final[dict[tuple[str, ...], Path]] = {}

    def sweep(self, scenario: Scenario, choose: Callable[[int], Iterable[int]]) -> Count:
        """Kill a verb at some of its points, and look each time what is left.

        Args:
            scenario: the verb.
            choose: given how many points there are, returns at which.
        """
        ready = self._ready(scenario)
        count = Count(os.stat(self._points).st_size // WIDTH)
        for number in choose(count.points):
            self._copy(ready.fresh)
            self._run_armed(number, ready.again.arguments)
            reached = self._points.read_text(errors="replace").splitlines()
            # What happens at the same time may come to fewer points.
            count.killed += len(reached) >= number
            where = f"{number} ({reached[min(number, len(reached)) - 1].strip()})"
            count.left.add(self._settled(ready), where)
        self._copy(None)
        return count

    def inject(self, scenario: Scenario, injections: Iterable[Injection]) -> Iterator[Injected]:
        """Have system calls of a verb fail or kill it, and look each time what is left.

        Args:
            scenario: the verb.
            injections: one a run.

        Yields:
            What came of each.
        """
        ready = self._ready(scenario)
        for injection in injections:
            self._copy(ready.fresh)
            done, log = self._run_traced(injection, ready.again.arguments)
            until(self._nobody_is_left, "all processes have ended")
            yield Injected(injection, done.returncode, done.stderr, log, self._settled(ready))
        self._copy(None)

    def _ready(self, scenario: Scenario) -> _Ready:
        """Prepare a scenario, and run its verb once to see what is right."""
        fresh = self._prepare(scenario)
        self._copy(fresh)
        before = self._warm.call(right_of, self._root)
        verb = self._arguments(scenario.verb)
        assert self._run_armed(0, verb) == 0
        right = self._warm.call(right_of, self._root).over(before)
        return _Ready(fresh, right, Again(verb, scenario.codes))

    def _settled(self, ready: _Ready) -> Leftovers:
        try:
            left = self._warm.call(settle, self._root, ready.right, ready.again)
            until(lambda: not self._mounts(), "nothing is mounted any more")
        except AssertionError as error:
            return Leftovers(wrong=[str(error)])
        return left

    def _run_traced(
        self, injection: Injection, verb: tuple[str, ...]
    ) -> tuple[subprocess.CompletedProcess[str], str]:
        log = self._directory / "calls"
        calls = ",".join(injection.calls)
        effect = f"inject={calls}:{injection.effect}:when={injection.when}"
        strace = ["strace", "--follow-forks", "--seccomp-bpf", "-o", str(log)]
        strace += ["-e", f"trace={calls}", "-e", effect]
        done = subprocess.run(
            [*strace, sys.executable, "-m", "snapcore.cli", *verb],
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done, log.read_text(errors="replace")

    def _prepare(self, scenario: Scenario) -> Path | None:
        """Return a directory from which the root is copied; None for none."""
        prepared = self._after(scenario.before)
        if prepared is None:
            return None
        self._copy(prepared)
        scenario.prepare(self._root)
        return self._keep("scenario")

    def _after(self, lines: tuple[str, ...]) -> Path | None:
        """Return what the root is after these command lines, which are run only once."""
        if not lines:
            return None
        if lines not in self._prepared:
            self._copy(self._after(lines[:-1]))
            done = self._warm.call(call, *self._arguments(lines[-1]))
            assert done.code == 0, done.err
            self._prepared[lines] = self._keep(str(len(self._prepared)))
        return self._prepared[lines]

    def _keep(self, name: str) -> Path:
        """Return a copy of the root as it is now."""
        self._end_daemon()
        self._unmount_all()
        kept = self._directory / f"prepared-{name}"
        subprocess.run(["rm", "-rf", kept], check=True)
        subprocess.run(["cp", "-a", self._root.path, kept], check=True)
        return kept

    def _copy(self, prepared: Path | None) -> None:
        """Make the root anew."""
        self._end_daemon()
        self._unmount_all()
        subprocess.run(["rm", "-rf", self._root.path], check=True)
        if prepared is not None:
            subprocess.run(["cp", "-a", prepared, self._root.path], check=True)

    def _end_daemon(self) -> None:
        places = Places(str(self._root.store))
        if os.path.exists(places.socket):
            Daemon(places, Settings()).stop()

    def _unmount_all(self) -> None:
        for target in self._mounts():
            umount(target, UnmountFlag.DETACH)

    def _mounts(self) -> list[str]:
        return [entry.target for entry in mounts_below(str(self._root.path))]

    def _run_armed(self, number: int, verb: tuple[str, ...]) -> int:
        """Run a verb, of which a process dies at a point; return how it ended, once all have."""
        with suppress(FileNotFoundError):
            self._points.unlink()
        try:
            code = self._warm.call(_run, f"{number}:{self._points}", verb)
        except Killed:
            code = _KILLED
        until(self._nobody_is_left, "all processes have ended")
        return code

    def _nobody_is_left(self) -> bool:
        directory = self._root.path / "owner"
        names = os.listdir(directory) if directory.exists() else ()
        return not any(owner_alive(str(self._root.path), name) for name in names)

    def _arguments(self, line: str) -> tuple[str, ...]:
        where = ("--config", str(self._config_file), "--root", str(self._root.path))
        return (*where, "--snapshotter", self._root.backend, *line.format(**self._names).split())


def _run(told: str, command: tuple[str, ...]) -> int:
    os.environ[VARIABLE] = told
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    arm_as_told(os.environ)
    return run_command(command)
