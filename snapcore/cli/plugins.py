"""`plugins`: what is installed and what of it works here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from snapcore.cli.flags import Verbs
from snapcore.cli.output import Column, Json, write_record, write_rows
from snapcore.cli.session import Session
from snapcore.errors import AlreadyExists

if TYPE_CHECKING:
    from snapcore.snapshots import PluginInfo, Probe

_LIST: Final = (
    Column("NAME", "name"),
    Column("KIND", "kind"),
    Column("DISTRIBUTION", "distribution"),
    Column("VERSION", "version"),
    Column("USABLE", "usable"),
    Column("REASON", "reason"),
)


@click.group(cls=Verbs)
def plugins() -> None:
    """Work with snapshotter plugins."""


@plugins.command("ls")
@click.pass_context
def ls(context: click.Context) -> None:
    """List installed snapshotters and wrappers, and whether they work here."""
    from snapcore.snapshots import WRAPPER_ENTRY_POINTS, list_plugins

    session = Session.of(context)
    blocked = session.load().config.blocked
    with session.node() as node:
        probes = node.probe_all()
    rows = [
        _snapshotter(plugin, probes.get(plugin.name)) for plugin in list_plugins(blocked=blocked)
    ]
    rows += [_wrapper(plugin) for plugin in list_plugins(WRAPPER_ENTRY_POINTS, blocked=blocked)]
    write_rows(session.format, _LIST, rows)


@plugins.command("new")
@click.argument("name")
@click.option("--directory", metavar="DIR", default="", help="Where.  [default: ./NAME]")
@click.pass_context
def new(context: click.Context, name: str, directory: str) -> None:
    """Write a new snapshotter to begin with: a distribution whose tests pass."""
    from snapcore.scaffold import new_plugin
    from snapcore.snapshots import list_plugins

    session = Session.of(context)
    if any(plugin.name == name for plugin in list_plugins()):
        raise AlreadyExists(f"a snapshotter {name!r} is installed already; choose another name")
    plugin = new_plugin(name, directory)
    write_record(
        session.format,
        {
            "name": plugin.name,
            "distribution": plugin.distribution,
            "package": plugin.package,
            "directory": plugin.directory,
            "files": plugin.files,
        },
    )


def probe_record(probe: Probe) -> dict[str, Json]:
    """Return what a backend says about itself, as a record."""
    return {
        "usable": probe.usable,
        "reason": probe.reason,
        "capabilities": sorted(probe.capabilities),
        "contract": probe.contract,
        "details": dict(probe.details),
    }


def _snapshotter(plugin: PluginInfo, probe: Probe | None) -> dict[str, Json]:
    from snapcore.snapshots import Probe

    found = probe or Probe(usable=False, reason="it was not probed")
    return {**_record(plugin, "snapshotter"), **probe_record(found)}


def _wrapper(plugin: PluginInfo) -> dict[str, Json]:
    reason = "blocked by the configuration" if plugin.blocked else ""
    return {**_record(plugin, "wrapper"), "usable": not plugin.blocked, "reason": reason}


def _record(plugin: PluginInfo, kind: str) -> dict[str, Json]:
    return {
        "name": plugin.name,
        "kind": kind,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "module": plugin.module,
        "blocked": plugin.blocked,
        "rivals": plugin.rivals,
    }
