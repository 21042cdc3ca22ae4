"""`snapshots verify`: whether snapshots are what they were, and mending those that are not."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from snapcore.cli.flags import Verb
from snapcore.cli.output import Column, Json, Record, write_rows
from snapcore.cli.session import Session
from snapcore.cli.text import printable
from snapcore.errors import NotFound, SnapcoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from snapcore.node import Node, SnapshotCheck
    from snapcore.snapshots import Snapshotter

_COLUMNS: Final = (
    Column("SNAPSHOTTER", "snapshotter"),
    Column("KEY", "name"),
    Column("RESULT", "result"),
    Column("PATH", "path"),
    Column("WHAT", "kind"),
    Column("RECORDED", "recorded"),
    Column("FOUND", "found"),
    Column("REMARK", "remark"),
)


@click.command("verify", cls=Verb)
@click.argument("keys", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All committed snapshots of all snapshotters.")
@click.option("--repair", is_flag=True, help="Make damaged ones again from their layers.")
@click.option("--record", is_flag=True, help="Record those of which nothing was recorded.")
@click.pass_context
def verify(
    context: click.Context, keys: tuple[str, ...], every: bool, repair: bool, record: bool
) -> None:
    """Compare committed snapshots with what was recorded when they were made.

    Each differing path of a snapshot's own layer is named. Fails if something is damaged, and not
    repaired.
    """
    from snapcore.cli.exits import FAILED
    from snapcore.cli.tasks import run

    if bool(keys) == every:
        raise click.UsageError("name snapshots, or give --all")
    session = Session.of(context)
    tell = _silent if session.progress == "none" else _to_stderr
    with session.node() as node:
        wanted = list(_wanted(node, session, keys))
        one = partial(_verify, node, repair=repair, record=record)
        found = run(partial(_verify_each, one, wanted, tell, spare=every))
    if session.format == "json":
        write_rows("json", (), [_record(check) for check in found])
    else:
        write_rows("table", _COLUMNS, [row for check in found for row in _rows(check)])
    if any(check.verdict in ("damaged", "broken", "unreadable") for check in found):
        context.exit(FAILED)


def _wanted(
    node: Node, session: Session, keys: tuple[str, ...]
) -> Iterator[tuple[Snapshotter, str]]:
    """Yield what is to be verified: parents before their children."""
    if keys:
        snapshotter = node.snapshotter(session.snapshotter)
        yield from ((snapshotter, key) for key in keys)
        return
    for name in session.snapshotters or node.snapshotters.known():
        snapshotter = node.snapshotter(name)
        parents = {info.name: info.parent for info in snapshotter.walk(["kind==committed"])}
        yield from ((snapshotter, key) for key in sorted(parents, key=partial(_depth, parents)))


def _depth(parents: dict[str, str], key: str) -> int:
    depth = 0
    while key := parents.get(key, ""):
        depth += 1
    return depth


async def _verify_each(
    one: Callable[[Snapshotter, str], Awaitable[SnapshotCheck]],
    wanted: list[tuple[Snapshotter, str]],
    tell: Callable[[str], None],
    *,
    spare: bool,
) -> list[SnapshotCheck]:
    """Verify one after the other; with `spare`, what fails does not keep the rest from it."""
    from snapcore.node import SnapshotCheck, Verdict

    found = []
    for number, (snapshotter, key) in enumerate(wanted, 1):
        tell(f"verifying {number} of {len(wanted)}: {key} of {snapshotter.name}")
        try:
            found.append(await one(snapshotter, key))
        except NotFound:
            # Removed since it was listed.
            if not spare:
                raise
        except SnapcoreError as error:
            if not spare:
                raise
            unreadable = Verdict.UNREADABLE
            found.append(SnapshotCheck(snapshotter.name, key, unreadable, reason=str(error)))
    return found


async def _verify(
    node: Node, snapshotter: Snapshotter, key: str, *, repair: bool, record: bool
) -> SnapshotCheck:
    import trio

    from snapcore.node import Verdict

    checkpoint = trio.from_thread.check_cancelled
    check = await trio.to_thread.run_sync(node.integrity.verify, snapshotter, key, checkpoint)
    if repair:
        check = await node.repair.repair(snapshotter, check)
    if record and check.verdict is Verdict.UNRECORDED:
        await trio.to_thread.run_sync(node.integrity.record, snapshotter, key, checkpoint)
        check = await trio.to_thread.run_sync(node.integrity.verify, snapshotter, key, checkpoint)
    return check


def _rows(check: SnapshotCheck) -> Iterator[Record]:
    remark = "; ".join(filter(None, (check.reason, check.trouble)))
    if check.more:
        remark = "; ".join(filter(None, (remark, f"{check.more} more differences")))
    row: dict[str, Json] = {
        "snapshotter": check.snapshotter,
        "name": check.name,
        "result": str(check.verdict),
        "remark": remark,
        **dict.fromkeys(("path", "kind", "recorded", "found"), ""),
    }
    if not check.damage:
        yield row
    for one in check.damage:
        yield {
            **row,
            "path": one.path,
            "kind": one.kind,
            "recorded": one.recorded,
            "found": one.found,
        }


def _record(check: SnapshotCheck) -> Record:
    return {
        "snapshotter": check.snapshotter,
        "name": check.name,
        "result": str(check.verdict),
        "files": check.files,
        "damage": [
            {
                "path": one.path,
                "kind": one.kind,
                "recorded": one.recorded,
                "found": one.found,
            }
            for one in check.damage
        ],
        "more": check.more,
        "reason": check.reason,
        "trouble": check.trouble,
    }


def _to_stderr(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


def _silent(line: str) -> None:
    del line
