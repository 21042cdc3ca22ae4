"""`images check` and `images inspect`: what an image is, and whether it is whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, cast

import click

from snapcore.cli.exits import FAILED
from snapcore.cli.flags import Verb
from snapcore.cli.output import (
    Column,
    Json,
    size,
    write_bytes,
    write_json,
    write_record,
    write_rows,
)
from snapcore.cli.session import Session

if TYPE_CHECKING:
    from snapcore.node import ImageCheck
    from snapcore.oci import Platform

_CHECK: Final = (
    Column("NAME", "name"),
    Column("STATUS", "status"),
    Column("PRESENT", "present_bytes", size, right=True),
    Column("REQUIRED", "required_bytes", size, right=True),
    Column("UNPACKED FOR", "unpacked_for"),
)
_platform = click.option(
    "--platform", default="", metavar="OS/ARCH[/VARIANT]", help="Instead of this host's."
)


@click.command("check", cls=Verb)
@click.argument("references", nargs=-1)
@_platform
@click.pass_context
def check(context: click.Context, references: tuple[str, ...], platform: str) -> None:
    """Say whether images are whole and unpacked.

    All images if no REFERENCES are given. Fails if one of them can neither be mounted nor
    unpacked from what is here.
    """
    session = Session.of(context)
    wanted = _parse_platform(platform)
    with session.node() as node:
        names = references or [image.name for image in node.images.list()]
        checks = [node.images.check(name, wanted) for name in names]
    write_rows(session.format, _CHECK, [_record(found) for found in checks])
    if not all(found.complete or any(found.snapshots.values()) for found in checks):
        context.exit(FAILED)


@click.command("inspect", cls=Verb)
@click.argument("reference")
@_platform
@click.option("--raw-manifest", "what", flag_value="manifest", help="Print the manifest's bytes.")
@click.option("--raw-config", "what", flag_value="config", help="Print the config's bytes.")
@click.pass_context
def inspect(context: click.Context, reference: str, platform: str, what: str | None) -> None:
    """Show an image's documents."""
    session = Session.of(context)
    with session.node() as node:
        found = node.images.inspect(reference, _parse_platform(platform))
    if what is not None:
        write_bytes(found.manifest_bytes if what == "manifest" else found.config_bytes)
        return
    record: dict[str, Json] = {
        "name": found.reference,
        "digest": str(found.descriptor.digest),
        "media_type": found.descriptor.media_type,
        "manifest_digest": str(found.manifest.digest),
        "config_digest": str(found.config.digest),
        "chain_id": found.chain_id,
    }
    if session.format == "json":
        documents = {
            "manifest": cast(Json, json.loads(found.manifest_bytes)),
            "config": _document(found.config.media_type, found.config_bytes),
        }
        write_json({**record, **documents})
    else:
        write_record("table", record)


def _document(media_type: str, data: bytes) -> Json:
    """Return a config as JSON; None for an artifact's, which may be of any kind."""
    if not media_type.endswith("json"):
        return None
    return cast(Json, json.loads(data))


def _parse_platform(text: str) -> Platform:
    from snapcore.oci import Platform

    return Platform.parse(text) if text else Platform.local()


def _record(found: ImageCheck) -> dict[str, Json]:
    return {
        "name": found.reference,
        "digest": str(found.descriptor.digest),
        "status": found.status,
        "present_bytes": found.present_bytes,
        "required_bytes": found.required_bytes,
        "missing": [str(descriptor.digest) for descriptor in found.missing],
        "discarded": [str(descriptor.digest) for descriptor in found.discarded],
        "unpacked_for": sorted(name for name, there in found.snapshots.items() if there),
    }
