"""What the entry point `btrfs` names: probe and opening."""

from __future__ import annotations

import os
from typing import Final

from snapcore.linux import filesystem_type
from snapcore.snapshots import (
    Backend,
    Capability,
    Probe,
    existing_ancestor,
    hookimpl,
    trial_directory,
)
from snapcore_btrfs import subvolume
from snapcore_btrfs.btrfs import BtrfsSnapshotter

_CAPABILITIES: Final = frozenset(
    {Capability.HARDLINKS, Capability.READONLY_VIEW, Capability.RENAME_DIR}
)


@hookimpl
def snapcore_probe(root: str) -> Probe:
    """Make, snapshot, seal and delete a subvolume at `root`."""
    place = existing_ancestor(root)
    try:
        details = {"filesystem": filesystem_type(place)}
        with trial_directory(root) as directory:
            first, second = (os.path.join(directory, name) for name in ("first", "second"))
            try:
                subvolume.create(first)
                subvolume.snapshot(first, second)
                subvolume.seal(second)
                subvolume.changed(second, everything=False)
            finally:
                for path in (first, second):
                    subvolume.delete(path)
    except OSError as error:
        return Probe(usable=False, reason=f"no btrfs subvolumes at {place!r}: {error.strerror}")
    return Probe(usable=True, capabilities=_CAPABILITIES, details=details)


@hookimpl
def snapcore_open(root: str) -> Backend:
    """Open the state below `root`."""
    return BtrfsSnapshotter(root)
