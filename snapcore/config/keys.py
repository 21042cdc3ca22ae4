"""Every key of the config file, and the check of a single value."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from snapcore.archive.types import Limits
from snapcore.errors import InvalidArgument
from snapcore.snapshots.types import Durability

VERSION: Final = 1
SYSTEM_ROOT: Final = "/var/lib/snapcore"
SYSTEM_STATE: Final = "/run/snapcore"
SYSTEM_HOSTS: Final = "/etc/snapcore/certs.d"
PLUGINS: Final = "plugins"

Value: TypeAlias = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the file.

    Attributes:
        kind: the TOML type; `tuple` is a list of strings.
        default: what applies if it is not set.
        help: one sentence.
        choices: the only values allowed; empty for any.
        minimum: the least number allowed.
    """

    kind: type[int | float | str | tuple[str, ...]]
    default: Value
    help: str
    choices: tuple[str, ...] = ()
    minimum: float = 1


_LIMITS = Limits()
KEYS: Final[Mapping[str, Key]] = {
    "root": Key(str, SYSTEM_ROOT, "directory of all lasting state"),
    "state": Key(str, SYSTEM_STATE, "directory of what need not survive a reboot"),
    "snapshotter": Key(tuple, ("auto",), "a name, a list of names, or auto: what works here"),
    "wrappers": Key(tuple, (), "snapshotter wrappers by name, the outermost first"),
    "blocked": Key(tuple, (), "names of plugins that are never loaded"),
    "durability": Key(
        str,
        Durability.FLUSH.value,
        "when unpacked layers are put on disk: before anything relies on them (flush), each one"
        " at once (strict), or when the system pleases (none)",
        tuple(mode.value for mode in Durability),
    ),
    "registry.plain_http": Key(tuple, (), "hosts that are spoken to without TLS"),
    "registry.insecure": Key(tuple, (), "hosts whose certificate is not verified"),
    "registry.ca": Key(str, "", "PEM file of authorities trusted besides the system's"),
    "registry.config_path": Key(
        str, SYSTEM_HOSTS, "directories with a hosts.toml for each registry, colons between them"
    ),
    "registry.private_networks": Key(
        str,
        "same-as-registry",
        "where registries may be, and send us",
        ("allow", "same-as-registry", "refuse"),
    ),
    "registry.docker_config": Key(str, "", "docker config.json with credentials"),
    "registry.max_per_host": Key(int, 4, "most requests to one host at a time"),
    "registry.connect_timeout": Key(float, 30.0, "seconds to wait for a connection", (), 0.001),
    "registry.read_timeout": Key(float, 60.0, "seconds without a byte before giving up", (), 0.001),
    "unpack.downloads": Key(int, 3, "most blobs fetched at a time"),
    "unpack.workers": Key(int, 2, "most layers applied at a time"),
    "unpack.unprivileged": Key(
        str, "refuse", "owners and devices that need root: refuse or map", ("refuse", "map")
    ),
    "unpack.discard": Key(
        str, "never", "let layer blobs go once unpacked", ("never", "after-image", "after-layer")
    ),
    "unpack.index": Key(
        str,
        "never",
        "make indexes of layers that a lazy snapshotter unpacked, at the end of their pull",
        ("never", "pull"),
    ),
    "unpack.max_size": Key(int, _LIMITS.size, "most uncompressed bytes of one layer"),
    "unpack.max_entries": Key(int, _LIMITS.entries, "most entries of one layer"),
    "unpack.max_ratio": Key(int, _LIMITS.ratio, "most uncompressed bytes for a compressed one"),
}
"""Every key that the file may set, besides `version`, `[plugins.<name>]` and `[[node]]`."""

TABLES: Final = frozenset(key.partition(".")[0] for key in KEYS if "." in key)
_TYPE_NAMES: Final[Mapping[type, str]] = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    tuple: "a list of strings",
    list: "a list",
    dict: "a table",
}


def check_value(key: str, value: object, where: str) -> Value:
    """Check one value, as TOML gives it, against its key.

    Args:
        key: dotted, such as `unpack.downloads` or `plugins.overlay.sync_remove`.
        value: from the file or an override.
        where: names the source in messages.

    Raises:
        InvalidArgument: an unknown key, or a value of another type or out of range.
    """
    if key.startswith(f"{PLUGINS}."):
        return _plugin_option(key, value, where)
    spec = KEYS.get(key)
    if spec is None:
        known = (*KEYS, *TABLES, PLUGINS, "version", "node")
        raise InvalidArgument(f"{where}: unknown key {key!r} ({hint(key, known)})")
    if spec.kind is tuple:
        return _strings(key, value, where)
    if spec.kind is float and type(value) is int:
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, spec.kind):
        raise wrong_type(where, key, _TYPE_NAMES[spec.kind], value)
    if isinstance(value, int | float) and not spec.minimum <= value < math.inf:
        raise InvalidArgument(f"{where}: {key!r} must be at least {spec.minimum:g}, not {value!r}")
    if spec.choices and value not in spec.choices:
        raise InvalidArgument(f"{where}: {key!r} is {value!r}; want {' or '.join(spec.choices)}")
    return value


def wrong_type(where: str, key: str, want: str, value: object) -> InvalidArgument:
    """Return the error for a value of another type than its key wants."""
    got = _TYPE_NAMES.get(type(value), f"a {type(value).__name__}")
    return InvalidArgument(f"{where}: {key!r} must be {want}, not {got}")


def hint(key: str, known: Sequence[str]) -> str:
    """Return what to say about an unknown key: the nearest known one, or all beside it."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if near:
        return f"did you mean {near[0]!r}?"
    table = key.partition(".")[0]
    siblings = [name for name in known if name.startswith(f"{table}.")]
    if not siblings:
        siblings = [name for name in known if "." not in name]
    return "known: " + ", ".join(sorted(siblings))


def _strings(key: str, value: object, where: str) -> tuple[str, ...]:
    if key == "snapshotter" and isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise wrong_type(where, key, _TYPE_NAMES[tuple], value)
    names = tuple(cast(Sequence[str], value))
    if key == "snapshotter" and (not names or "" in names or ("auto" in names and len(names) > 1)):
        raise InvalidArgument(f"{where}: {key!r} must be auto, a name, or a list of names")
    return names


def _plugin_option(key: str, value: object, where: str) -> Value:
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(cast(Sequence[str], value))
    raise wrong_type(where, key, "a boolean, an integer, a string or a list of strings", value)
