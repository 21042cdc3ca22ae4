"""How containerd names its services, and what it calls the parts of a daemon."""

from __future__ import annotations

from typing import Final

from snapcore.snapshots import Capability

SNAPSHOTS: Final = "containerd.services.snapshots.v1.Snapshots"
CONTENT: Final = "containerd.services.content.v1.Content"
IMAGES: Final = "containerd.services.images.v1.Images"
INTROSPECTION: Final = "containerd.services.introspection.v1.Introspection"
LEASES: Final = "containerd.services.leases.v1.Leases"

SNAPSHOTTER_TYPE: Final = "io.containerd.snapshotter.v1"
"""The type of plugin that a snapshotter is (containerd, plugins/types.go)."""

PLUGIN_PREFIX: Final = "snapcore-"
"""Put before a snapshotter's name for containerd, which does not start where a proxy plugin has
the name of one of its own snapshotters, such as `native`."""

MESSAGE_BYTES: Final = 16 << 20
"""Longest message in either direction (containerd, defaults/defaults.go)."""


def capability_word(capability: Capability) -> str:
    """Return a capability as containerd writes those that it has, such as `remap-ids`."""
    return capability.value.replace("_", "-")


def plugin_name(snapshotter: str) -> str:
    """Return what containerd shall call a snapshotter of ours."""
    return PLUGIN_PREFIX + snapshotter
