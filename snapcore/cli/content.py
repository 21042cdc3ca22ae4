"""`content`: the blobs of the content store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from snapcore import labels as label_rules
from snapcore.cli.content_verify import verify
from snapcore.cli.flags import Verbs
from snapcore.cli.output import (
    Column,
    Json,
    size,
    write_bytes,
    write_line,
    write_record,
    write_rows,
)
from snapcore.cli.session import Session
from snapcore.cli.text import rfc3339

if TYPE_CHECKING:
    from snapcore.content import ContentInfo

_LIST: Final = (
    Column("DIGEST", "digest"),
    Column("SIZE", "size", size, right=True),
    Column("UPDATED", "updated"),
)
_CHUNK: Final = 1 << 20


@click.group(cls=Verbs)
def content() -> None:
    """Work with the blobs of the content store."""


@content.command("ls")
@click.argument("filters", nargs=-1)
@click.option("-q", "--quiet", is_flag=True, help="Print digests only.")
@click.pass_context
def ls(context: click.Context, filters: tuple[str, ...], quiet: bool) -> None:
    """List blobs.

    FILTERS are containerd's, such as 'labels."containerd.io/uncompressed"'; one of several
    must hold.
    """
    session = Session.of(context)
    with session.node() as node:
        infos = list(node.content.walk(filters))
    if quiet:
        for found in infos:
            write_line(str(found.digest))
    else:
        write_rows(session.format, _LIST, [_record(found) for found in infos])


@content.command("get")
@click.argument("digest")
@click.pass_context
def get(context: click.Context, digest: str) -> None:
    """Write a blob's bytes to stdout, verified."""
    from snapcore.oci import Digest

    parsed = Digest.parse(digest)
    with Session.of(context).node() as node, node.content.reader(parsed) as reader:
        while chunk := reader.read(_CHUNK):
            write_bytes(chunk)


@content.command("info")
@click.argument("digest")
@click.pass_context
def info(context: click.Context, digest: str) -> None:
    """Show what is known of a blob."""
    from snapcore.oci import Digest

    session = Session.of(context)
    parsed = Digest.parse(digest)
    with session.node() as node:
        found = node.content.info(parsed)
    write_record(session.format, _record(found))


@content.command("label")
@click.argument("digest")
@click.argument("labels", nargs=-1, required=True)
@click.pass_context
def label(context: click.Context, digest: str, labels: tuple[str, ...]) -> None:
    """Set labels of a blob: key=value; key= deletes."""
    from snapcore.oci import Digest

    session = Session.of(context)
    parsed = Digest.parse(digest)
    changes = label_rules.parse(labels)
    with session.node() as node:
        paths = tuple(f"labels.{name}" for name in changes)
        changed = node.content.update(parsed, changes, paths)
    write_record(session.format, _record(changed))


@content.command("rm")
@click.argument("digests", nargs=-1, required=True)
@click.pass_context
def rm(context: click.Context, digests: tuple[str, ...]) -> None:
    """Delete blobs, whatever may need them."""
    from snapcore.oci import Digest

    parsed = [Digest.parse(digest) for digest in digests]
    with Session.of(context).node(freeing=True) as node:
        for digest in parsed:
            node.content.delete(digest)
            write_line(str(digest))


content.add_command(verify)


def _record(found: ContentInfo) -> dict[str, Json]:
    return {
        "digest": str(found.digest),
        "size": found.size,
        "labels": dict(found.labels),
        "created": rfc3339(found.created),
        "updated": rfc3339(found.updated),
    }
