"""What the entry point `erofs` names: options, probe, opening, and how a layer is received."""

from __future__ import annotations

from collections.abc import Mapping

from snapcore.snapshots import (
    ApplyResult,
    Backend,
    LayerLimits,
    Option,
    Options,
    OverlayForm,
    Probe,
    hookimpl,
)
from snapcore_erofs.erofs import ErofsSnapshotter, Settings
from snapcore_erofs.probe import probe as try_out
from snapcore_erofs.received import receive


@hookimpl
def snapcore_options() -> Mapping[str, Option]:
    """Return the options of `[plugins.erofs]`."""
    return {
        "mount_options": Option(
            kind=list[str],
            default=(),
            help="Options added to every overlay mount, such as `xino=off`.",
        ),
        "sync_remove": Option(
            kind=bool,
            default=False,
            help="Delete files when a snapshot is removed, not only at the next cleanup.",
        ),
    }


@hookimpl
def snapcore_probe(root: str, options: Options) -> Probe:
    """Find out by mounting at `root` whether images of layers work there."""
    return try_out(root, _settings(options).mount_options)


@hookimpl
def snapcore_open(root: str, options: Options, probe: Probe) -> Backend:
    """Open the state below `root` in the form that the probe has found."""
    form = probe.findings if isinstance(probe.findings, OverlayForm) else None
    return ErofsSnapshotter(root, _settings(options), form)


@hookimpl
def snapcore_apply(target: str, stream_fd: int, limits: LayerLimits) -> ApplyResult:
    """Keep an uncompressed layer in `target`; its image is made when it is committed."""
    return receive(target, stream_fd, limits)


def _settings(options: Options) -> Settings:
    given = options["mount_options"]
    return Settings(
        mount_options=given if isinstance(given, tuple) else (),
        sync_remove=bool(options["sync_remove"]),
    )
