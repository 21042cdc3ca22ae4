"""What the entry point `native` names: options, probe and opening."""

from __future__ import annotations

from collections.abc import Mapping

from snapcore.snapshots import Backend, Capability, Option, Options, Probe, hookimpl
from snapcore_native.native import NativeSnapshotter
from snapcore_native.probe import probe as try_out


@hookimpl
def snapcore_options() -> Mapping[str, Option]:
    """Return the options of `[plugins.native]`."""
    return {
        "sync_remove": Option(
            kind=bool,
            default=False,
            help="Delete files when a snapshot is removed, not only at the next cleanup.",
        ),
    }


@hookimpl
def snapcore_probe(root: str) -> Probe:
    """Try links, xattrs, devices and reflinks at `root`."""
    return try_out(root)


@hookimpl
def snapcore_open(root: str, options: Options, probe: Probe) -> Backend:
    """Open the state below `root`, with what the probe has found possible."""
    return NativeSnapshotter(
        root,
        sync_remove=bool(options["sync_remove"]),
        remap_ids=Capability.REMAP_IDS in probe.capabilities,
    )
