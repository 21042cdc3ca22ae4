"""What overlayfs writes into an upper directory for what is gone from the layers below.

Source: kernel, Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
"""

from __future__ import annotations

import os
import stat
from typing import Final

from snapcore.archive.failures import Path, shown
from snapcore.errors import Unimplemented
from snapcore.oci.whiteout import WhiteoutStyle

_ELSEWHERE: Final = ("redirect", "metacopy", "whiteout")
_OPAQUE: Final = "opaque"


class UpperMarks:
    """Reads the marks of one style.

    Args:
        style: how the overlay writes them; APPLY for a tree that has none.
    """

    def __init__(self, style: WhiteoutStyle) -> None:
        self._none: Final = style is WhiteoutStyle.APPLY
        self._prefix: Final = style.opaque_xattr.removesuffix(_OPAQUE)

    def is_deletion(self, status: os.stat_result) -> bool:
        """Tell whether a node is a whiteout: a 0:0 character device."""
        return not self._none and stat.S_ISCHR(status.st_mode) and status.st_rdev == 0

    def is_opaque(self, place: int | bytes, path: Path) -> bool:
        """Tell whether a directory hides what is below it.

        Args:
            place: an open directory, or the path of a directory or file.
            path: names it in messages.

        Raises:
            Unimplemented: part of it lies in the layers below, by a redirect or as a lazy copy.
            OSError: as listxattr(2).
        """
        if self._none:
            return False
        follow = isinstance(place, int)
        names = os.listxattr(place, follow_symlinks=follow)
        for word in _ELSEWHERE:
            if self._prefix + word in names:
                raise Unimplemented(
                    f"{shown(path)} has xattr {self._prefix + word!r}: mount the overlay with"
                    " redirect_dir=nofollow,metacopy=off to have whole files in its upper directory"
                )
        mark = self._prefix + _OPAQUE
        return mark in names and os.getxattr(place, mark, follow_symlinks=follow) == b"y"
