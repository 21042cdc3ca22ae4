"""How a container of an image is run, and changing that by the words of a Dockerfile.

The known members of `config` (OCI image-spec, config.md); what else a config has stays as it is.
The instructions are those that `docker commit --change` takes, and mean what they mean there.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from snapcore.errors import InvalidArgument

_SHELL: Final = ("/bin/sh", "-c")
_PORT: Final = re.compile(r"([0-9]{1,5})(?:/(tcp|udp|sctp))?\Z", re.ASCII)
_MAX_PORT: Final = 65535
_SHOWN: Final = 100


class RuntimeConfig(msgspec.Struct, rename="pascal", omit_defaults=True):
    """The members of an image config's `config` that instructions change.

    Attributes:
        user: who runs in it, `user[:group]`.
        exposed_ports: what it listens on, `port/protocol`.
        env: `NAME=value`.
        entrypoint: the program, and its first arguments.
        cmd: its arguments, or the program itself.
        volumes: directories that shall be volumes.
        working_dir: where it starts.
        labels: free text.
        stop_signal: what ends it.
    """

    user: str | None = None
    exposed_ports: dict[str, dict[str, str]] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    volumes: dict[str, dict[str, str]] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None


def change(config: RuntimeConfig, instructions: Sequence[str]) -> None:
    """Change a config by instructions, in their order.

    Args:
        config: changed in place.
        instructions: such as `CMD ["sh"]`, `ENV A=1 B=2`, `WORKDIR /srv`.

    Raises:
        InvalidArgument: an unknown or malformed instruction.
    """
    names = set()
    for text in instructions:
        word, _, rest = text.strip().partition(" ")
        name, rest = word.upper(), rest.strip()
        if name not in _INSTRUCTIONS:
            known = ", ".join(sorted(_INSTRUCTIONS))
            raise InvalidArgument(f"not an instruction: {text[:_SHOWN]!r} (known: {known})")
        if not rest:
            raise InvalidArgument(f"instruction {text[:_SHOWN]!r} says nothing")
        _INSTRUCTIONS[name](config, rest)
        names.add(name)
    if "ENTRYPOINT" in names and "CMD" not in names:
        # The arguments were meant for another program (Dockerfile reference, "ENTRYPOINT").
        config.cmd = None


def _cmd(config: RuntimeConfig, text: str) -> None:
    config.cmd = _program(text)


def _entrypoint(config: RuntimeConfig, text: str) -> None:
    config.entrypoint = _program(text)


def _env(config: RuntimeConfig, text: str) -> None:
    values = dict(item.partition("=")[::2] for item in config.env or ())
    values |= _pairs(text)
    config.env = [f"{name}={value}" for name, value in values.items()]


def _label(config: RuntimeConfig, text: str) -> None:
    config.labels = {**(config.labels or {}), **_pairs(text)}


def _user(config: RuntimeConfig, text: str) -> None:
    config.user = text


def _workdir(config: RuntimeConfig, text: str) -> None:
    config.working_dir = posixpath.normpath(posixpath.join(config.working_dir or "/", text))


def _stop_signal(config: RuntimeConfig, text: str) -> None:
    config.stop_signal = text


def _expose(config: RuntimeConfig, text: str) -> None:
    ports = dict(config.exposed_ports or {})
    for word in _words(text):
        match = _PORT.match(word)
        if match is None or int(match[1]) > _MAX_PORT:
            raise InvalidArgument(f"not a port: {word[:_SHOWN]!r} (want 80 or 53/udp)")
        ports[f"{match[1]}/{match[2] or 'tcp'}"] = {}
    config.exposed_ports = ports


def _volume(config: RuntimeConfig, text: str) -> None:
    places = _array(text) if text.startswith("[") else _words(text)
    config.volumes = {**(config.volumes or {}), **{place: {} for place in places}}


_INSTRUCTIONS: Final[Mapping[str, Callable[[RuntimeConfig, str], None]]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def _program(text: str) -> list[str]:
    return _array(text) if text.startswith("[") else [*_SHELL, text]


def _array(text: str) -> list[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"not an array of strings: {text[:_SHOWN]!r} ({error})") from error


def _pairs(text: str) -> dict[str, str]:
    """Return what `A=1 B="two words"` or the old form `A the rest` says."""
    words = _words(text)
    if "=" not in words[0]:
        name, _, value = text.partition(" ")
        return {name: value.strip()}
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise InvalidArgument(f"not NAME=VALUE: {word[:_SHOWN]!r}")
        pairs[name] = value
    return pairs


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidArgument(f"quotes do not match: {text[:_SHOWN]!r}") from error
