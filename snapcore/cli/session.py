"""What one run of the command line works with: flags and environment made into values."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

import click

from snapcore.cli.flags import Flag, given
from snapcore.cli.output import Format
from snapcore.errors import InvalidArgument

if TYPE_CHECKING:
    from snapcore.config import HostFacts, Loaded, Setting
    from snapcore.node import Node

Progress = Literal["auto", "plain", "none"]
_SYSTEM_CONFIG: Final = "/etc/snapcore/config.toml"


@dataclass(frozen=True, slots=True)
class Session:
    """One run: what was given on the command line, and the environment.

    Attributes:
        flags: the global options that were given, by name.
        environment: the process's environment.
        user: effective user id; 0 uses the system's directories.
    """

    flags: Mapping[str, Flag]
    environment: Mapping[str, str]
    user: int

    @classmethod
    def of(cls, context: click.Context) -> Session:
        """Return the session of a running command."""
        return cls(dict(given(context)), dict(os.environ), os.geteuid())

    @property
    def format(self) -> Format:
        """How results are written."""
        return cast(Format, self._word("format", "table"))

    @property
    def progress(self) -> Progress:
        """How progress is shown."""
        return cast(Progress, self._word("progress", "auto"))

    @property
    def snapshotters(self) -> tuple[str, ...]:
        """The snapshotters named on the command line; () if none was."""
        return self._words("snapshotter")

    @property
    def snapshotter(self) -> str:
        """The snapshotter for a verb that needs one; "" for the configuration's default."""
        return next(iter(self.snapshotters), "")

    def load(self, more: Sequence[Setting] = ()) -> Loaded:
        """Load the configuration that applies to this run.

        Args:
            more: settings that a verb's own flags make.

        Raises:
            SnapcoreError: as `snapcore.config.load`.
        """
        from snapcore.config import load

        overrides = [*self._overrides(), *more]
        return load(self.config_path, overrides, self._facts(), self._defaults())

    @contextmanager
    def node(self, more: Sequence[Setting] = (), *, freeing: bool = False) -> Iterator[Node]:
        """Open the node for the duration of a `with` block.

        Args:
            more: settings that a verb's own flags make.
            freeing: the verb removes things: see `Node.open`.

        Raises:
            SnapcoreError: as `load` and `Node.open`.
        """
        # Before the import, so that a mistake in the file costs no start-up.
        config = self.load(more).config
        from snapcore.node import Node

        trace = _say if self.environment.get("SNAPCORE_TRACE_HOOKS") == "1" else None
        with Node.open(config, environment=self.environment, trace=trace, freeing=freeing) as node:
            yield node

    @property
    def config_path(self) -> str | None:
        """The config file that applies; None for none."""
        flag = self.flags.get("config")
        if flag is not None:
            return str(flag.value)
        path = _SYSTEM_CONFIG
        if self.user != 0:
            path = os.path.join(self._xdg("XDG_CONFIG_HOME", ".config"), "snapcore/config.toml")
        return path if os.path.exists(path) else None

    def _word(self, name: str, default: str) -> str:
        flag = self.flags.get(name)
        return default if flag is None else str(flag.value)

    def _words(self, name: str) -> tuple[str, ...]:
        flag = self.flags.get(name)
        return () if flag is None else tuple(flag.value)

    def _overrides(self) -> list[Setting]:
        from snapcore.config import Setting

        named = [(name, self.flags[name]) for name in ("root", "state") if name in self.flags]
        settings = [Setting(name, flag.value, flag.origin) for name, flag in named]
        if self.snapshotters:
            flag = self.flags["snapshotter"]
            settings.append(Setting("snapshotter", flag.value, flag.origin))
        return settings

    def _facts(self) -> HostFacts:
        from snapcore.config import HostFacts

        host = os.uname()
        from_environment = self.environment.get("SNAPCORE_NODE_LABELS", "")
        items = [item for item in from_environment.split(",") if item]
        return HostFacts(host.nodename, host.release, _pairs([*items, *self._words("node-label")]))

    def _defaults(self) -> list[Setting]:
        from snapcore.config import Setting

        settings = []
        if self.user != 0:
            data = self._xdg("XDG_DATA_HOME", ".local/share")
            settings.append(Setting("root", os.path.join(data, "snapcore"), "default of a user"))
            runtime = self.environment.get("XDG_RUNTIME_DIR")
            if runtime:
                state = os.path.join(runtime, "snapcore")
                settings.append(Setting("state", state, "env XDG_RUNTIME_DIR"))
        docker = self.environment.get("DOCKER_CONFIG") or os.path.join(self._home(), ".docker")
        path = os.path.join(docker, "config.json")
        if os.path.exists(path):
            settings.append(Setting("registry.docker_config", path, "default, it exists"))
        return settings

    def _xdg(self, variable: str, below_home: str) -> str:
        return self.environment.get(variable) or os.path.join(self._home(), below_home)

    def _home(self) -> str:
        return self.environment.get("HOME") or os.path.expanduser("~")


def _say(call: object) -> None:
    print(f"hook {call}", file=sys.stderr)


def _pairs(items: list[str]) -> dict[str, str]:
    pairs = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise InvalidArgument(f"not a node label: {item!r} (want key=value)")
        pairs[key] = value
    return pairs
