"""`snapshots`: what a snapshotter has, and the contract's verbs by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click

from snapcore import labels as label_rules
from snapcore.cli import mounts as mount_text
from snapcore.cli.flags import Verbs
from snapcore.cli.output import (
    Column,
    Json,
    Record,
    size,
    write_json,
    write_line,
    write_record,
    write_rows,
    write_text,
)
from snapcore.cli.session import Session
from snapcore.cli.snapshots_diff import diff
from snapcore.cli.snapshots_verify import verify
from snapcore.cli.text import rfc3339

if TYPE_CHECKING:
    from snapcore.snapshots import Info, Mounts, SnapshotStatus

_LIST: Final = (Column("KEY", "name"), Column("PARENT", "parent"), Column("KIND", "kind"))
_USAGE: Final = (
    Column("KEY", "name"),
    Column("SIZE", "size", size, right=True),
    Column("INODES", "inodes", right=True),
)
_USAGE_BYTES: Final = (
    Column("KEY", "name"),
    Column("SIZE", "size", right=True),
    Column("INODES", "inodes", right=True),
)

_label = click.option(
    "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label; may be repeated."
)
_no_root = click.option(
    "--no-root", is_flag=True, help="Let the garbage collector have it unless something needs it."
)
_target = click.option("--target", metavar="DIR", help="Print the command that mounts it at DIR.")
_mounts = click.option("--mounts", "as_json", is_flag=True, help="Print the mounts as JSON.")


@click.group(cls=Verbs)
def snapshots() -> None:
    """Work with the snapshots of a snapshotter."""


@snapshots.command("ls")
@click.argument("filters", nargs=-1)
@click.option("-q", "--quiet", is_flag=True, help="Print keys only.")
@click.pass_context
def ls(context: click.Context, filters: tuple[str, ...], quiet: bool) -> None:
    """List snapshots.

    FILTERS are containerd's, such as kind==active or 'labels."my/label"==x'; one of several
    must hold.
    """
    session = Session.of(context)
    with session.node() as node:
        infos = list(node.snapshotter(session.snapshotter).walk(filters))
    if quiet:
        for info in infos:
            write_line(info.name)
    else:
        write_rows(session.format, _LIST, [_record(info) for info in infos])


@snapshots.command("tree")
@click.pass_context
def tree(context: click.Context) -> None:
    """Show which snapshot stands on which."""
    session = Session.of(context)
    with session.node() as node:
        infos = list(node.snapshotter(session.snapshotter).walk())
    placed = list(_in_tree_order(infos))
    if session.format == "json":
        write_json([{"depth": depth, **_record(info)} for depth, info in placed])
        return
    for depth, info in placed:
        write_line(f"{'  ' * depth}{info.name}  ({info.kind})")


@snapshots.command("info")
@click.argument("key")
@click.pass_context
def info(context: click.Context, key: str) -> None:
    """Show what is known of a snapshot."""
    session = Session.of(context)
    with session.node() as node:
        snapshotter = node.snapshotter(session.snapshotter)
        found, status = snapshotter.stat(key), snapshotter.status(key)
    write_record(session.format, {**_record(found), **_content(status)})


@snapshots.command("usage")
@click.argument("keys", nargs=-1)
@click.option("-b", "--bytes", "exact", is_flag=True, help="Print sizes in bytes.")
@click.pass_context
def usage(context: click.Context, keys: tuple[str, ...], exact: bool) -> None:
    """Show what the removal of snapshots would free, without their parents.

    All snapshots if no KEYS are given.
    """
    session = Session.of(context)
    rows: list[Record] = []
    with session.node() as node:
        snapshotter = node.snapshotter(session.snapshotter)
        for key in keys or [info.name for info in snapshotter.walk()]:
            found = snapshotter.usage(key)
            rows.append(
                {"name": key, "size": found.size, "inodes": found.inodes, "delta": found.delta}
            )
    write_rows(session.format, _USAGE_BYTES if exact else _USAGE, rows)


@snapshots.command("prepare")
@click.argument("key")
@click.argument("parent", default="")
@_target
@_mounts
@_label
@_no_root
@click.pass_context
def prepare(
    context: click.Context,
    key: str,
    parent: str,
    target: str | None,
    as_json: bool,
    labels: tuple[str, ...],
    no_root: bool,
) -> None:
    """Create a writable snapshot on a committed one, or an empty one."""
    session = Session.of(context)
    given = _root_labels(labels, no_root)
    with session.node() as node:
        made = node.snapshotter(session.snapshotter).prepare(key, parent, labels=given)
    _write_mounts(session, made, target, as_json)


@snapshots.command("view")
@click.argument("key")
@click.argument("parent", default="")
@_target
@_mounts
@_label
@_no_root
@click.pass_context
def view(
    context: click.Context,
    key: str,
    parent: str,
    target: str | None,
    as_json: bool,
    labels: tuple[str, ...],
    no_root: bool,
) -> None:
    """Create a read-only snapshot of a committed one."""
    session = Session.of(context)
    given = _root_labels(labels, no_root)
    with session.node() as node:
        made = node.snapshotter(session.snapshotter).view(key, parent, labels=given)
    _write_mounts(session, made, target, as_json)


@snapshots.command("commit")
@click.argument("name")
@click.argument("key")
@_label
@_no_root
@click.pass_context
def commit(
    context: click.Context, name: str, key: str, labels: tuple[str, ...], no_root: bool
) -> None:
    """Turn the writable snapshot KEY into the committed one NAME."""
    session = Session.of(context)
    given = _root_labels(labels, no_root)
    with session.node() as node:
        made = node.snapshotter(session.snapshotter).commit(name, key, labels=given)
    write_record(session.format, _record(made))


@snapshots.command("mounts")
@click.argument("key")
@_target
@_mounts
@click.pass_context
def mounts(context: click.Context, key: str, target: str | None, as_json: bool) -> None:
    """Show the mounts of a writable or read-only snapshot."""
    session = Session.of(context)
    with session.node() as node:
        found = node.snapshotter(session.snapshotter).mounts(key)
    _write_mounts(session, found, target, as_json)


@snapshots.command("label")
@click.argument("key")
@click.argument("labels", nargs=-1, required=True)
@click.pass_context
def label(context: click.Context, key: str, labels: tuple[str, ...]) -> None:
    """Set labels of a snapshot: key=value; key= deletes."""
    session = Session.of(context)
    changes = label_rules.parse(labels)
    with session.node() as node:
        from snapcore.snapshots import Info, Kind

        wanted = Info(Kind.ACTIVE, key, labels=changes)
        paths = tuple(f"labels.{name}" for name in changes)
        changed = node.snapshotter(session.snapshotter).update(wanted, paths)
    write_record(session.format, _record(changed))


@snapshots.command("rm")
@click.argument("keys", nargs=-1, required=True)
@click.pass_context
def rm(context: click.Context, keys: tuple[str, ...]) -> None:
    """Remove snapshots; children go before their parents."""
    from snapcore.unpack import reclaim

    session = Session.of(context)
    with session.node(freeing=True) as node:
        snapshotter = node.snapshotter(session.snapshotter)
        try:
            for key in keys:
                write_line(snapshotter.remove(key).name)
        finally:
            if not node.read_only:
                reclaim(snapshotter)


snapshots.add_command(diff)
snapshots.add_command(verify)


def _record(info: Info) -> dict[str, Json]:
    return {
        "name": info.name,
        "kind": str(info.kind),
        "parent": info.parent,
        "labels": dict(info.labels),
        "created": rfc3339(info.created),
        "updated": rfc3339(info.updated),
        "state": str(info.state),
    }


def _content(status: SnapshotStatus) -> dict[str, Json]:
    """Return where the files of a snapshot are, if they might be elsewhere."""
    if not status.lazy:
        return {"lazy": False, "reason": status.reason} if status.reason else {}
    return {
        "lazy": True,
        "format": status.format,
        "remote_bytes": status.size,
        "fetched_bytes": status.fetched,
        "complete": status.complete,
        "error": status.error,
    }


def _root_labels(items: tuple[str, ...], no_root: bool) -> dict[str, str]:
    given = label_rules.parse(items)
    if not no_root:
        given.setdefault(label_rules.GC_ROOT, rfc3339(time.time_ns()))
    return given


def _write_mounts(session: Session, made: Mounts, target: str | None, as_json: bool) -> None:
    rows = mount_text.records(made)
    if target is not None and not as_json:
        write_text(mount_text.command_lines(made, target))
    else:
        write_rows("json" if as_json else session.format, mount_text.COLUMNS, rows)


def _in_tree_order(infos: Sequence[Info]) -> Iterator[tuple[int, Info]]:
    children: dict[str, list[Info]] = {}
    names = {info.name for info in infos}
    for info in infos:
        # A parent removed while we walked: its child is shown as a root rather than lost.
        children.setdefault(info.parent if info.parent in names else "", []).append(info)
    pending = [(0, info) for info in reversed(children.get("", []))]
    while pending:
        depth, info = pending.pop()
        yield depth, info
        pending += [(depth + 1, child) for child in reversed(children.get(info.name, []))]
