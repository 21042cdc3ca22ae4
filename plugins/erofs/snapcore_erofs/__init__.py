"""The EROFS snapshotter, usable with and without plugin machinery."""

from snapcore_erofs.erofs import ErofsSnapshotter as ErofsSnapshotter
from snapcore_erofs.erofs import Settings as Settings
from snapcore_erofs.probe import probe as probe
