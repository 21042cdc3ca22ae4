"""What `conformance` checks: an installed snapshotter, or one behind a socket."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from snapcore.cli.extras import need_service
from snapcore.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from snapcore.conformance import Subject
    from snapcore.snapshots import Capability, Option, Probe

_TRUTH: Final = {"true": True, "false": False}
_Options: TypeAlias = "dict[str, bool | int | str | tuple[str, ...]]"


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for.

    Attributes:
        name: of a plugin, or the address of a socket.
        options: `key=value`, of a plugin.
        snapshotter: what the other side of the socket calls it.
        namespace: of containerd.
        capabilities: what it can do besides what it says of itself.
    """

    name: str
    options: tuple[str, ...]
    snapshotter: str
    namespace: str
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Examined:
    """What is checked.

    Attributes:
        name: of the snapshotter.
        probe: what it says of itself.
        options: how it was opened.
        subject: for the checks.
    """

    name: str
    probe: Probe
    options: _Options
    subject: Subject


def examined(choice: Choice, place: str) -> AbstractContextManager[Examined]:
    """Find what is to be checked, for the duration of a `with` block.

    Args:
        choice: what was asked for.
        place: an existing directory.

    Raises (when entered):
        SnapcoreError: there is no such thing, or it cannot work here.
    """
    if "://" in choice.name:
        return _served(choice)
    return _installed(choice, place)


@contextmanager
def _installed(choice: Choice, place: str) -> Iterator[Examined]:
    from snapcore.conformance import Subject
    from snapcore.snapshots import open_snapshotter, probe_snapshotter, snapshotter_options

    name = choice.name
    if choice.capabilities:
        raise InvalidArgument(f"{name!r} says itself what it can do; --capability is for sockets")
    options = _options(name, snapshotter_options(name), choice.options)
    probe = probe_snapshotter(name, os.path.join(place, "probe"), options)
    if not probe.usable:
        raise FailedPrecondition(f"snapshotter {name!r} cannot work here: {probe.reason}")
    subject = Subject(lambda root: open_snapshotter(name, root, options=options))
    yield Examined(name, probe, options, subject)


@contextmanager
def _served(choice: Choice) -> Iterator[Examined]:
    need_service("checking what is behind a socket")
    from snapcore.conformance import Subject
    from snapcore.service.client import leased, open_service
    from snapcore.snapshots import Snapshotter

    address, name = choice.name, choice.snapshotter
    if not name:
        raise InvalidArgument(f"say with --snapshotter which one behind {address!r} is meant")
    if choice.options:
        raise InvalidArgument(f"{address!r} is open already; --option is for installed plugins")
    declared = _capabilities(choice.capabilities)
    with leased(address, namespace=choice.namespace) as lease:

        def connect(_root: str) -> Snapshotter:
            return open_service(
                address, name, namespace=choice.namespace, lease=lease, capabilities=declared
            )

        with connect("") as first:
            probe = first.probe
        subject = Subject(connect, installed=False, local=False)
        yield Examined(name, probe, dict(probe.details), subject)


def _capabilities(words: Sequence[str]) -> list[Capability]:
    from snapcore.snapshots import Capability

    known = {each.value: each for each in Capability}
    for word in words:
        if word not in known:
            raise InvalidArgument(f"no capability {word!r}; there are {', '.join(sorted(known))}")
    return [known[word] for word in words]


def _options(name: str, schema: Mapping[str, Option], pairs: Sequence[str]) -> _Options:
    given: _Options = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise InvalidArgument(f"not an option of {name!r}: {pair!r} (want key=value)")
        option = schema.get(key)
        default = option.default if option else ""
        if isinstance(default, bool):
            given[key] = _TRUTH.get(text, text)
        elif isinstance(default, int) and text.removeprefix("-").isdecimal():
            given[key] = int(text)
        elif isinstance(default, tuple):
            earlier = given.get(key, ())
            given[key] = (*(earlier if isinstance(earlier, tuple) else ()), text)
        else:
            given[key] = text
    return given
