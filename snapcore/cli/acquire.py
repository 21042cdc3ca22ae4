"""What pull, import and unpack have in common: flags, progress, and saying what was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click

from snapcore import labels as label_rules
from snapcore.cli.output import Json, write_json, write_line, write_record
from snapcore.cli.session import Session

if TYPE_CHECKING:
    from snapcore.config import Setting
    from snapcore.node import PullResult, UnpackChoice

_Command = TypeVar("_Command", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Wanted:
    """The flags that pull, import and unpack share.

    Attributes:
        platform: as typed, "" for this host's.
        discard: let layer blobs go afterwards; None as configured.
        labels: `key=value` items for every snapshot.
        unpack: make snapshots at all.
        downloads: most blobs fetched at a time; None as configured.
        quiet: print top chain IDs only.
    """

    platform: str
    discard: bool | None
    labels: tuple[str, ...]
    unpack: bool
    downloads: int | None
    quiet: bool

    def settings(self) -> tuple[Setting, ...]:
        """Return the settings that these flags make."""
        from snapcore.config import Setting

        if self.downloads is None:
            return ()
        return (Setting("unpack.downloads", self.downloads, "flag --max-concurrent-downloads"),)

    def choices(self, session: Session) -> tuple[UnpackChoice, ...]:
        """Return what to unpack: one choice for each snapshotter that was named, one if none was.

        Raises:
            InvalidArgument: a label is malformed.
        """
        from snapcore.node import UnpackChoice

        names = session.snapshotters if self.unpack and session.snapshotters else ("",)
        labels = label_rules.parse(self.labels)
        return tuple(
            UnpackChoice(
                platform=self.platform,
                snapshotter=name,
                unpack=self.unpack,
                # Only the last snapshotter may let go of layers that the others still need.
                discard=self.discard if name == names[-1] else False,
                snapshot_labels=labels,
            )
            for name in names
        )


def shared_flags(command: _Command) -> _Command:
    """Add the flags that become a `Wanted`, as parameter names of the same meaning."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Print the top chain ID only."),
        click.option(
            "--max-concurrent-downloads",
            "downloads",
            type=click.IntRange(min=1),
            metavar="N",
            help="Most blobs fetched at a time.",
        ),
        click.option(
            "--snapshotter-label",
            "labels",
            multiple=True,
            metavar="KEY=VALUE",
            help="Label for every snapshot; may be repeated.",
        ),
        click.option(
            "--discard-content",
            "discard",
            is_flag=True,
            default=None,
            help="Let the layer blobs be collected once unpacked.",
        ),
        click.option(
            "--platform", default="", metavar="OS/ARCH[/VARIANT]", help="Instead of this host's."
        ),
    ):
        command = option(command)
    return command


def write_results(session: Session, results: Sequence[PullResult], *, quiet: bool) -> None:
    """Say what was done.

    JSON is an array with one object for each image and snapshotter.
    """
    if quiet:
        for result in results:
            if result.chain_id:
                write_line(result.chain_id)
        return
    if session.format == "json":
        write_json([_record(result) for result in results])
        return
    for result in results:
        write_record("table", {"name": result.reference, "digest": str(result.descriptor.digest)})
        for manifest in result.manifests:
            if manifest.reason:
                write_record("table", {"not unpacked": manifest.reason})
            else:
                shown = {"snapshotter": manifest.snapshotter, "chain ID": manifest.chain_id}
                write_record("table", shown)


def _record(result: PullResult) -> dict[str, Json]:
    return {
        "name": result.reference,
        "digest": str(result.descriptor.digest),
        "media_type": result.descriptor.media_type,
        "size": result.descriptor.size,
        "chain_id": result.chain_id,
        "unpacked": result.unpacked,
        "manifests": [
            {
                "digest": str(manifest.manifest.digest),
                "config": str(manifest.config.digest),
                "snapshotter": manifest.snapshotter,
                "chain_id": manifest.chain_id,
                "reason": manifest.reason,
            }
            for manifest in result.manifests
        ],
    }
