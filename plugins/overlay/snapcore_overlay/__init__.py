"""The overlayfs snapshotter, usable with and without plugin machinery."""

from snapcore_overlay.overlay import OverlaySnapshotter as OverlaySnapshotter
from snapcore_overlay.overlay import Settings as Settings
from snapcore_overlay.probe import probe as probe
