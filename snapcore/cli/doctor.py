"""`doctor`: what this host can do, and why not the rest."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import click

from snapcore.cli.exits import FAILED
from snapcore.cli.flags import Verb
from snapcore.cli.output import Json, write_json, write_line, write_record
from snapcore.cli.plugins import probe_record
from snapcore.cli.session import Session
from snapcore.cli.text import human_size
from snapcore.errors import SnapcoreError

if TYPE_CHECKING:
    from snapcore.config import RegistryConfig
    from snapcore.snapshots import Probe


@click.command(cls=Verb)
@click.pass_context
def doctor(context: click.Context) -> None:
    """Say what this host can do, and why not the rest.

    Fails if no snapshotter works here.
    """
    from snapcore.sqlite import library_version

    session = Session.of(context)
    config = session.load().config
    found = _try(session)
    probes = found.probes
    host: dict[str, Json] = {
        "version": version("snapcore"),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "user": session.user,
        "config": session.config_path or "",
        "root": config.root,
        **_filesystem(config.root),
        "state": config.state,
        "durability": config.durability.value,
        "not_durable": found.not_durable,
        "quarantined_bytes": found.quarantined,
        "sqlite": library_version(),
        "problem": found.problem,
        "default_snapshotter": found.default,
    }
    hosts = _hosts_problems(config.registry)
    if session.format == "json":
        each = [{"name": name, **probe_record(probe)} for name, probe in probes.items()]
        write_json({**host, "hosts_problems": list(hosts), "snapshotters": each})
    else:
        sizes = {key: _readable(host[key]) for key in ("free_bytes", "quarantined_bytes")}
        write_record("table", {**host, **sizes})
        for name, probe in probes.items():
            _write_probe(name, probe)
        for text in hosts:
            write_line(f"registry hosts: {text}")
    if not any(probe.usable for probe in probes.values()):
        context.exit(FAILED)


@dataclass(frozen=True, slots=True)
class _Found:
    """What opening the node and probing has shown.

    Attributes:
        problem: why the node cannot be used, "" if it can.
        default: the snapshotter that is used unless another one is named.
        probes: what each says of itself.
        not_durable: commits that a power cut may still take away.
        quarantined: bytes of damaged blobs that are set aside.
    """

    problem: str = ""
    default: str = ""
    probes: Mapping[str, Probe] = field(default_factory=dict)
    not_durable: int = 0
    quarantined: int = 0


def _try(session: Session) -> _Found:
    try:
        with session.node() as node:
            found = _Found(
                probes=node.probe_all(),
                not_durable=node.snapshotters.not_durable(),
                quarantined=node.content.quarantined().size,
            )
            try:
                return replace(found, default=node.snapshotters.default_name())
            except SnapcoreError as error:
                return replace(found, problem=str(error))
    except SnapcoreError as error:
        return _Found(problem=str(error))


def _hosts_problems(config: RegistryConfig) -> tuple[str, ...]:
    from snapcore.node.connection import hosts_problems

    return hosts_problems(config)


def _filesystem(root: str) -> dict[str, Json]:
    from snapcore.linux import filesystem_type

    place = root
    while not os.path.exists(place):
        place = os.path.dirname(place)
    return {
        "filesystem": filesystem_type(place),
        "free_bytes": shutil.disk_usage(place).free,
    }


def _write_probe(name: str, probe: Probe) -> None:
    write_line(f"snapshotter {name}: {'usable' if probe.usable else f'not usable: {probe.reason}'}")
    if probe.capabilities:
        write_line(f"  can: {', '.join(sorted(probe.capabilities))}")
    for key, value in sorted(probe.details.items()):
        write_line(f"  {key}: {value}")


def _readable(free: Json) -> str:
    return human_size(free) if isinstance(free, int) else ""
