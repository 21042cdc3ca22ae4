"""Loading: defaults, the file, the first matching `[[node]]` table, and overrides.

The last one wins. Nothing here reads the environment: a front end makes overrides of its
environment and flags. Any key that is not in `KEYS` is an error that names it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from snapcore.archive.types import Limits
from snapcore.config.keys import (
    KEYS,
    PLUGINS,
    TABLES,
    VERSION,
    Value,
    check_value,
    wrong_type,
)
from snapcore.config.match import HostFacts, NodeMatch, parse_match
from snapcore.config.values import (
    Discard,
    IndexWhen,
    NodeConfig,
    PrivateNetworks,
    RegistryConfig,
    UnpackConfig,
    Unprivileged,
)
from snapcore.errors import InvalidArgument, from_os_error
from snapcore.snapshots.types import Durability, Options, OptionValue


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value and where it came from.

    Attributes:
        key: dotted, such as `unpack.downloads` or `plugins.overlay.sync_remove`.
        value: as it applies.
        origin: `default`, `<file>`, `<file>:[[node]] 2`, `flag --root`, `env SNAPCORE_ROOT`.
    """

    key: str
    value: Value
    origin: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and the settings it was made of, sorted by key."""

    config: NodeConfig
    settings: tuple[Setting, ...]

    def origin(self, key: str) -> str:
        """Return where the value of a dotted key came from; "" for a key that is not set."""
        return next((s.origin for s in self.settings if s.key == key), "")


def load(
    path: str | None,
    overrides: Sequence[Setting] = (),
    facts: HostFacts | None = None,
    defaults: Sequence[Setting] = (),
) -> Loaded:
    """Read a config file and layer everything that applies to this host.

    Args:
        path: the file; None for none.
        overrides: settings that win over the file, the last one most.
        facts: what `[[node]]` tables are matched against; None matches no condition.
        defaults: settings that the file wins over, such as a user's own directories.

    A source that sets `root` but not `state` makes the state directory `<root>/state`.

    Raises:
        NotFound: there is no such file.
        PermissionDenied: the file may not be read.
        InvalidArgument: not TOML, an unknown key, or a value of another type.
    """
    settings = {key: Setting(key, spec.default, "default") for key, spec in KEYS.items()}
    layers = [_checked(defaults)]
    if path is not None:
        layers += _read(path, facts or HostFacts())
    layers.append(_checked(overrides))
    for layer in layers:
        _overlay(settings, layer)
    return Loaded(_build(settings), tuple(settings[key] for key in sorted(settings)))


def _checked(settings: Sequence[Setting]) -> list[Setting]:
    return [_leaf(item.key, item.value, item.origin) for item in settings]


def _overlay(settings: dict[str, Setting], layer: Sequence[Setting]) -> None:
    for setting in layer:
        settings[setting.key] = setting
    if "root" in (setting.key for setting in layer) and "state" not in (s.key for s in layer):
        # Two roots must never share a state directory, so it follows whoever sets the root.
        root = settings["root"]
        settings["state"] = Setting("state", os.path.join(str(root.value), "state"), root.origin)


def _read(path: str, facts: HostFacts) -> Iterator[list[Setting]]:
    try:
        with open(path, "rb") as file:
            document: dict[str, object] = tomllib.load(file)
    except OSError as error:
        raise from_os_error(error, f"config file {path!r}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"config file {path!r} is not TOML: {error}") from error
    version = document.pop("version", VERSION)
    if version is True or version != VERSION:
        raise InvalidArgument(f"{path}: version {version!r} is not supported (want {VERSION})")
    nodes = document.pop("node", [])
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise InvalidArgument(f"{path}: key 'node' must be tables, written [[node]]")
    yield _flatten(document, path)
    chosen: list[Setting] | None = None
    # All tables are read, so that a mistake shows on every host and not only where it bites.
    for number, node in enumerate(nodes, 1):
        match, own = _node(node, f"{path}:[[node]] {number}")
        if chosen is None and match.matches(facts):
            chosen = own
    if chosen is not None:
        yield chosen


def _node(node: dict[str, object], where: str) -> tuple[NodeMatch, list[Setting]]:
    match = node.pop("match", {})
    if not isinstance(match, dict):
        raise wrong_type(where, "match", "a table", match)
    return parse_match(match, where), _flatten(node, where)


def _flatten(document: Mapping[str, object], where: str) -> list[Setting]:
    settings: list[Setting] = []
    for key, value in document.items():
        if key == PLUGINS:
            settings += _plugins(value, where)
        elif key in TABLES:
            if not isinstance(value, dict):
                raise wrong_type(where, key, "a table", value)
            settings += [_leaf(f"{key}.{name}", item, where) for name, item in value.items()]
        elif "." in key:
            raise InvalidArgument(f"{where}: unknown key {key!r} (a dotted key takes no quotes)")
        else:
            settings.append(_leaf(key, value, where))
    return settings


def _plugins(value: object, where: str) -> list[Setting]:
    if not isinstance(value, dict):
        raise wrong_type(where, PLUGINS, "tables, written [plugins.<name>]", value)
    settings = []
    for name, options in value.items():
        if not isinstance(options, dict):
            raise wrong_type(where, f"{PLUGINS}.{name}", "a table", options)
        for option, item in options.items():
            settings.append(_leaf(f"{PLUGINS}.{name}.{option}", item, where))
    return settings


def _leaf(key: str, value: object, where: str) -> Setting:
    return Setting(key, check_value(key, value, where), where)


def _build(settings: Mapping[str, Setting]) -> NodeConfig:
    def text(key: str) -> str:
        return str(settings[key].value)

    def number(key: str) -> int:
        return int(cast(int, settings[key].value))

    def strings(key: str) -> tuple[str, ...]:
        return cast(tuple[str, ...], settings[key].value)

    names = strings("snapshotter")
    return NodeConfig(
        root=os.path.abspath(text("root")),
        state=os.path.abspath(text("state")),
        snapshotters=() if names == ("auto",) else names,
        plugins=_options(settings),
        wrappers=strings("wrappers"),
        blocked=strings("blocked"),
        durability=Durability(text("durability")),
        registry=RegistryConfig(
            plain_http=strings("registry.plain_http"),
            insecure=strings("registry.insecure"),
            ca=text("registry.ca"),
            config_path=tuple(filter(None, text("registry.config_path").split(":"))),
            private_networks=cast(PrivateNetworks, text("registry.private_networks")),
            docker_config=text("registry.docker_config"),
            max_per_host=number("registry.max_per_host"),
            connect_timeout=cast(float, settings["registry.connect_timeout"].value),
            read_timeout=cast(float, settings["registry.read_timeout"].value),
        ),
        unpack=UnpackConfig(
            downloads=number("unpack.downloads"),
            workers=number("unpack.workers"),
            unprivileged=cast(Unprivileged, text("unpack.unprivileged")),
            discard=cast(Discard, text("unpack.discard")),
            index=cast(IndexWhen, text("unpack.index")),
            limits=Limits(
                size=number("unpack.max_size"),
                entries=number("unpack.max_entries"),
                ratio=number("unpack.max_ratio"),
            ),
        ),
    )


def _options(settings: Mapping[str, Setting]) -> dict[str, Options]:
    found: dict[str, dict[str, OptionValue]] = {}
    for key, setting in settings.items():
        if key.startswith(f"{PLUGINS}."):
            # A plugin's name may have dots; the name of an option never does.
            name, _, option = key.removeprefix(f"{PLUGINS}.").rpartition(".")
            found.setdefault(name, {})[option] = cast(OptionValue, setting.value)
    return dict(found)
