"""What the entry point `overlay` names: options, probe and opening."""

from __future__ import annotations

from collections.abc import Mapping

from snapcore.snapshots import Backend, Option, Options, OverlayForm, Probe, hookimpl
from snapcore_overlay.overlay import OverlaySnapshotter, Settings
from snapcore_overlay.probe import probe as try_out


@hookimpl
def snapcore_options() -> Mapping[str, Option]:
    """Return the options of `[plugins.overlay]`."""
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
        "upperdir_label": Option(
            kind=bool,
            default=False,
            help="Tell the directory of a snapshot's own files in a label.",
        ),
        "selinux_context": Option(
            kind=str,
            default="",
            help="SELinux label of everything in overlay mounts, such as"
            " `system_u:object_r:container_file_t:s0`.",
        ),
        "classic_mounts": Option(
            kind=bool,
            default=False,
            help="Refuse snapshots of more layers than one page of mount options can name, which"
            " only snapcore can mount.",
        ),
    }


@hookimpl
def snapcore_probe(root: str, options: Options) -> Probe:
    """Find out by mounting at `root` whether overlayfs works there, and how."""
    settings = _settings(options)
    return try_out(root, settings.mount_options, settings.selinux_context)


@hookimpl
def snapcore_open(root: str, options: Options, probe: Probe) -> Backend:
    """Open the state below `root` in the form that the probe has found."""
    form = probe.findings if isinstance(probe.findings, OverlayForm) else None
    return OverlaySnapshotter(root, _settings(options), form)


def _settings(options: Options) -> Settings:
    given = options["mount_options"]
    return Settings(
        mount_options=given if isinstance(given, tuple) else (),
        sync_remove=bool(options["sync_remove"]),
        upperdir_label=bool(options["upperdir_label"]),
        selinux_context=str(options["selinux_context"]),
        classic_mounts=bool(options["classic_mounts"]),
    )
