"""What pull, import and unpack have in common: flags, progress, and saying what was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from snapcore import labels as label_rules
from snapcore.cli.output import Json, write_json, write_line, write_record
from snapcore.cli.session import Session
from snapcore.cli.text import human_size
from snapcore.errors import InvalidArgument

if TYPE_CHECKING:
    from snapcore.config import Discard, Setting
    from snapcore.node import PullResult, UnpackChoice
    from snapcore.unpack import LayerReport, UnpackedManifest

_META: Final = "snapcore.wanted"
_Command = TypeVar("_Command", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Wanted:
    """The flags that pull, import and unpack share.

    Attributes:
        platform: as typed, "" for this host's.
        all_platforms: fetch the manifests of all platforms.
        unpack_all: and unpack them.
        discard: when layer blobs go; None as configured.
        discard_content: the same as `after-image`.
        labels: `key=value` items for every snapshot.
        downloads: most blobs fetched at a time; None as configured.
        workers: most layers applied at a time; None as configured.
        quiet: print top chain IDs only.
    """

    platform: str = ""
    all_platforms: bool = False
    unpack_all: bool = False
    discard: Discard | None = None
    discard_content: bool = False
    labels: tuple[str, ...] = ()
    downloads: int | None = None
    workers: int | None = None
    quiet: bool = False

    @classmethod
    def of(cls, context: click.Context) -> Wanted:
        """Return what was given of the `shared_flags`."""
        return cls(**cast(dict[str, Any], context.meta.get(_META, {})))

    def settings(self) -> tuple[Setting, ...]:
        """Return the settings that these flags make."""
        from snapcore.config import Setting

        flags = (
            ("unpack.downloads", self.downloads, "flag --max-concurrent-downloads"),
            ("unpack.workers", self.workers, "flag --max-concurrent-unpacks"),
        )
        return tuple(Setting(key, value, flag) for key, value, flag in flags if value is not None)

    def choice(self, *, unpack: bool) -> UnpackChoice:
        """Return what to unpack; the snapshotters are those of the configuration.

        Args:
            unpack: make snapshots at all.

        Raises:
            InvalidArgument: a label is malformed, or two flags contradict each other.
        """
        from snapcore.node import UnpackChoice

        if self.platform and self.unpack_all:
            raise InvalidArgument("give either --platform or --unpack-all, not both")
        return UnpackChoice(
            platform=self.platform,
            all_platforms=self.all_platforms,
            unpack_all=self.unpack_all,
            unpack=unpack,
            discard=self.discard or ("after-image" if self.discard_content else None),
            snapshot_labels=label_rules.parse(self.labels),
        )


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> None:
    context.meta.setdefault(_META, {})[str(parameter.name)] = value


_flag: Final = partial(click.option, expose_value=False, callback=_remember)


def shared_flags(command: _Command) -> _Command:
    """Add the flags that become a `Wanted`."""
    for option in (
        _flag("-q", "--quiet", is_flag=True, help="Print the top chain ID only."),
        _flag(
            "--max-concurrent-unpacks",
            "workers",
            type=click.IntRange(min=1),
            metavar="N",
            help="Most layers applied at a time.",
        ),
        _flag(
            "--max-concurrent-downloads",
            "downloads",
            type=click.IntRange(min=1),
            metavar="N",
            help="Most blobs fetched at a time.",
        ),
        _flag(
            "--snapshotter-label",
            "labels",
            multiple=True,
            metavar="KEY=VALUE",
            help="Label for every snapshot; may be repeated.",
        ),
        _flag(
            "--discard-content",
            is_flag=True,
            help="Let the layer blobs be collected once unpacked.",
        ),
        _flag(
            "--discard",
            type=click.Choice(("never", "after-image", "after-layer")),
            help="When layer blobs go: after-layer deletes each at once.",
        ),
        _flag("--unpack-all", is_flag=True, help="Fetch and unpack all platforms."),
        _flag("--all-platforms", is_flag=True, help="Fetch all platforms, unpack one."),
        _flag(
            "--platform", default="", metavar="OS/ARCH[/VARIANT]", help="Instead of this host's."
        ),
    ):
        command = option(command)
    return command


def write_results(session: Session, results: Sequence[PullResult], *, quiet: bool) -> None:
    """Say what was done.

    JSON is an array with one object for each image.
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
        write_record("table", _summary(result))
        for manifest in result.manifests:
            write_record("table", _outcome(manifest))
        write_record("table", {"peak disk": human_size(result.peak_bytes)})


def _summary(result: PullResult) -> dict[str, Json]:
    name: dict[str, Json] = {"name": result.reference, "digest": str(result.descriptor.digest)}
    if len(result.manifests) < 2:
        return name
    return {**name, "unpacked": f"{result.unpacked} of {len(result.manifests)} manifests"}


def _outcome(manifest: UnpackedManifest) -> dict[str, Json]:
    if manifest.reason:
        return {"not unpacked": manifest.reason}
    chain_id = manifest.chain_id or "none: the image has no layers"
    shown: dict[str, Json] = {
        "snapshotter": ", ".join(manifest.snapshotters),
        "chain ID": chain_id,
    }
    if manifest.layers:
        lazy = sum(report.status is not None and report.status.lazy for report in manifest.layers)
        shown["lazy"] = f"{lazy} of {len(manifest.layers)} layers"
    return shown


def _record(result: PullResult) -> dict[str, Json]:
    return {
        "name": result.reference,
        "digest": str(result.descriptor.digest),
        "media_type": result.descriptor.media_type,
        "size": result.descriptor.size,
        "chain_id": result.chain_id,
        "unpacked": result.unpacked,
        "peak_bytes": result.peak_bytes,
        "manifests": [
            {
                "digest": str(manifest.manifest.digest),
                "config": str(manifest.config.digest),
                "snapshotters": list(manifest.snapshotters),
                "chain_id": manifest.chain_id,
                "reason": manifest.reason,
                "layers": [_layer(report) for report in manifest.layers],
            }
            for manifest in result.manifests
        ],
    }


def _layer(report: LayerReport) -> dict[str, Json]:
    status = report.status
    return {
        "digest": str(report.layer.digest),
        "snapshotter": report.snapshotter,
        "lazy": status is not None and status.lazy,
        "format": status.format if status else "",
        "reason": status.reason if status else "",
    }
