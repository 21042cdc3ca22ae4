"""Where images of layers are mounted: `mounts/<id>` below the state root.

Made when somebody needs the layer, and kept for those that come after; unmounted once no Active
and no View stands on it. Whoever hands out mounts holds the lock shared meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from snapcore.errors import SnapcoreError, Unavailable, from_os_error
from snapcore.linux import UnmountFlag, umount
from snapcore.locks import held
from snapcore.snapshots import Checkpoint, no_checkpoint
from snapcore_erofs.image import mount_image
from snapcore_erofs.layers import Layers

_DIRECTORY: Final = "mounts"
_USE: Final = "use.lock"
_MAKE: Final = "make.lock"


class LayerMounts:
    """The mounts of the images below one state root.

    Args:
        root: the state root.
        layers: the images.
    """

    __slots__ = ("_directory", "_layers")

    def __init__(self, root: str, layers: Layers) -> None:
        self._layers: Final = layers
        self._directory: Final = os.path.join(root, _DIRECTORY)

    @contextmanager
    def use(self, checkpoint: Checkpoint) -> Iterator[None]:
        """Keep what is mounted from being unmounted for the duration of a `with` block.

        Raises:
            SnapcoreError: the state root cannot be written.
        """
        with ExitStack() as stack:
            try:
                os.makedirs(self._directory, 0o700, exist_ok=True)
                lock = held(os.path.join(self._directory, _USE), checkpoint, shared=True)
                stack.enter_context(lock)
            except OSError as error:
                raise from_os_error(error, f"mounts in {self._directory!r}") from error
            yield

    def where(self, snapshot: int) -> str:
        """Return where a layer's image is mounted, which it is then.

        Raises:
            SnapcoreError: it cannot be mounted.
        """
        target = os.path.join(self._directory, str(snapshot))
        if not os.path.ismount(target):
            with held(os.path.join(self._directory, _MAKE), no_checkpoint):
                self._mount(snapshot, target)
        return target

    def _mount(self, snapshot: int, target: str) -> None:
        image = self._layers.image(snapshot)
        try:
            os.makedirs(target, 0o700, exist_ok=True)
            # Somebody else was faster.
            if os.path.ismount(target):
                return
            mount_image(image, self._layers.devices(snapshot), target)
        except OSError as error:
            raise from_os_error(error, f"mounting EROFS image {image!r}") from error

    def release(self, needed: Callable[[], frozenset[int]]) -> None:
        """Unmount what nobody needs; later, if somebody is just being handed a mount.

        Args:
            needed: returns the ids of the snapshots that an Active or a View stands on.
        """
        # What called this is done, and must not fail for that.
        with suppress(SnapcoreError, OSError):
            mounted = {int(name) for name in os.listdir(self._directory) if name.isdigit()}
            if not mounted:
                return
            with held(os.path.join(self._directory, _USE), _give_up):
                for snapshot in mounted - needed():
                    # What cannot be unmounted now is tried again by whoever comes next.
                    with suppress(OSError):
                        self._unmount(os.path.join(self._directory, str(snapshot)))

    @staticmethod
    def _unmount(target: str) -> None:
        while os.path.ismount(target):
            umount(target, UnmountFlag.DETACH)
        os.rmdir(target)


def _give_up() -> None:
    raise Unavailable("mounts are being handed out")
