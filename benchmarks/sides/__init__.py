"""Who is measured. Each works below a directory of its own on the fresh filesystem."""

from typing import Final

from benchmarks.sides import containerd, skopeo, snapcore, tar, umoci
from benchmarks.sides.side import Session, Side

SIDES: Final = (*containerd.SIDES, *snapcore.SIDES, *umoci.SIDES, *skopeo.SIDES, *tar.SIDES)

__all__ = ["SIDES", "Session", "Side"]
