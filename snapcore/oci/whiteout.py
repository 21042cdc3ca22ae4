"""Whiteouts: how a layer says that something below it is gone (OCI image-spec, layer.md)."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

WHITEOUT_PREFIX: Final = b".wh."
"""`.wh.NAME` deletes NAME of the layers below."""
OPAQUE_MARKER: Final = b".wh..wh..opq"
"""Deletes everything that the layers below have in its directory."""
AUFS_LEFTOVERS: Final = frozenset(
    {b".wh..wh.plnk", b".wh..wh..plnk", b".wh..wh.aufs", b".wh..wh.orph"}
)
"""Bookkeeping of AUFS that old builders left in layers: skipped without a word."""


class WhiteoutStyle(StrEnum):
    """How a layer's deletions are written into a target directory."""

    APPLY = "apply"
    """The directory shows the merged tree: delete for real."""
    OVERLAY = "overlay"
    """An upper directory: 0:0 character devices and `trusted.overlay.opaque`."""
    OVERLAY_USER = "overlay-user"
    """An upper directory under `userxattr`: 0:0 devices and `user.overlay.opaque`."""

    @property
    def opaque_xattr(self) -> str:
        """The xattr with value `y` that marks a directory of this style opaque."""
        return "user.overlay.opaque" if self is self.OVERLAY_USER else "trusted.overlay.opaque"
