"""`images ls`: what is here, how whole it is, and how much it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from snapcore.cli.flags import Verb
from snapcore.cli.output import Column, Json, size, write_line, write_rows
from snapcore.cli.session import Session
from snapcore.cli.text import rfc3339

if TYPE_CHECKING:
    from snapcore.gc import Share
    from snapcore.metadata import Image
    from snapcore.node import Node

_LIST: Final = (
    Column("NAME", "name"),
    Column("DIGEST", "digest"),
    Column("STATUS", "status"),
    Column("UNPACKED FOR", "unpacked_for"),
    Column("SIZE", "kept_bytes", size, right=True),
    Column("UNIQUE", "unique_bytes", size, right=True),
    Column("SHARED", "shared_bytes", size, right=True),
    Column("UPDATED", "updated"),
)


@click.command("ls", cls=Verb)
@click.argument("filters", nargs=-1)
@click.option("-q", "--quiet", is_flag=True, help="Print names only, which is fast.")
@click.pass_context
def ls(context: click.Context, filters: tuple[str, ...], quiet: bool) -> None:
    """List images, who has them unpacked, and how much they keep alone and with others.

    FILTERS are containerd's, such as name~=debian; one of several must hold.
    """
    session = Session.of(context)
    with session.node() as node:
        found = node.images.list(filters)
        if quiet:
            for image in found:
                write_line(image.name)
            return
        shares = node.garbage.shares() if found else {}
        # One that was named since the list was read has no share yet.
        rows = [_row(node, image, shares[image.name]) for image in found if image.name in shares]
    write_rows(session.format, _LIST, rows)


def record(image: Image) -> dict[str, Json]:
    """Return an image's record as the command line shows it."""
    return {
        "name": image.name,
        "digest": str(image.target.digest),
        "media_type": image.target.media_type,
        "size": image.target.size,
        "labels": dict(image.labels),
        "created": rfc3339(image.created),
        "updated": rfc3339(image.updated),
    }


def _row(node: Node, image: Image, share: Share) -> dict[str, Json]:
    status, unpacked = _status(node, image)
    return {
        **record(image),
        "status": status,
        "unpacked_for": unpacked,
        "kept_bytes": share.size,
        "unique_bytes": share.unique,
        "shared_bytes": share.shared,
    }


def _status(node: Node, image: Image) -> tuple[str, list[str]]:
    """Return how whole an image is for this platform, and who has it unpacked."""
    from snapcore.errors import DigestMismatch, NotFound, RefusedInput
    from snapcore.oci import Platform

    try:
        check = node.images.check(image.name, Platform.local())
    except NotFound:
        return "other platform", []
    except (DigestMismatch, RefusedInput):
        return "damaged", []
    unpacked = sorted(name for name, there in check.snapshots.items() if there)
    return check.status, unpacked
