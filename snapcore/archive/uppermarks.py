"""What overlayfs writes into an upper directory for what is gone from the layers below.

Source: kernel, Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import Final

from snapcore.archive.failures import Path, shown
from snapcore.errors import Unimplemented
from snapcore.linux import Resolve, openat2
from snapcore.oci.whiteout import WhiteoutStyle

_ELSEWHERE: Final = ("redirect", "metacopy", "whiteout")
_OPAQUE: Final = "opaque"
_OPEN: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_INSIDE: Final = Resolve.BENEATH | Resolve.NO_SYMLINKS
_OTHER: Final = (errno.ENOTDIR, errno.ELOOP)


class UpperMarks:
    """Reads the marks of one style.

    Args:
        style: how the overlay writes them; APPLY for a tree that has none.
        lowers: the directories below, the nearest first; None if they are not known.
    """

    def __init__(self, style: WhiteoutStyle, lowers: Sequence[str] | None = None) -> None:
        self._lowers: Final = lowers
        self._none: Final = style is WhiteoutStyle.APPLY
        self._prefix: Final = style.opaque_xattr.removesuffix(_OPAQUE)

    def is_deletion(self, status: os.stat_result) -> bool:
        """Tell whether a node is a whiteout: a 0:0 character device."""
        return not self._none and stat.S_ISCHR(status.st_mode) and status.st_rdev == 0

    def is_opaque(self, place: int | bytes, path: Path) -> bool:
        """Tell whether a directory hides another one below it.

        Args:
            place: the open directory, or its path.
            path: names it in messages.

        Raises:
            Unimplemented, OSError: as `check_whole`.
        """
        mark = self._prefix + _OPAQUE
        if mark not in self.check_whole(place, path):
            return False
        if os.getxattr(place, mark, follow_symlinks=isinstance(place, int)) != b"y":
            return False
        return self._lowers is None or self._is_directory_below(path, self._lowers)

    def check_whole(self, place: int | bytes, path: Path) -> list[str]:
        """Check that all of a node is in the upper directory; return its xattrs' names.

        Args:
            place: an open directory, or the path of a directory or file.
            path: names it in messages.

        Raises:
            Unimplemented: part of it lies in the layers below, by a redirect or as a lazy copy.
            OSError: as listxattr(2).
        """
        if self._none:
            return []
        names = os.listxattr(place, follow_symlinks=isinstance(place, int))
        for word in _ELSEWHERE:
            if self._prefix + word in names:
                raise Unimplemented(
                    f"{shown(path)} has xattr {self._prefix + word!r}: mount the overlay with"
                    " redirect_dir=nofollow,metacopy=off to have whole files in its upper directory"
                )
        return names

    @staticmethod
    def _is_directory_below(path: Path, lowers: Sequence[str]) -> bool:
        """Tell whether a path, whose parent is a directory below, is one there too.

        Overlayfs marks every new directory. In a layer the mark acts on what its path leads to
        below, and if that is a symlink, on another directory.
        """
        name = b"/".join(path) or b"."
        for lower in lowers:
            root = os.open(lower, _OPEN)
            try:
                os.close(openat2(root, name, _OPEN, _INSIDE))
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno in _OTHER:
                    return False
                raise
            finally:
                os.close(root)
            return True
        return False
