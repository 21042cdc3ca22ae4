"""What core does for hooks that a backend may leave out, and does.

Each is registered, `trylast`, only where the backend has no such hook. Were it always there, a
backend's hook that forgets to return something would run the default as well, unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from typing import Final

from snapcore.errors import FailedPrecondition, Unimplemented
from snapcore.mount import Mount
from snapcore.oci import WhiteoutStyle
from snapcore.snapshots.hookspecs import Backend, Checkpoint, SnapshotterSpec, hookimpl
from snapcore.snapshots.remap import refuse_mapped
from snapcore.snapshots.rootsync import RootSync
from snapcore.snapshots.types import (
    FlushReport,
    Info,
    Kind,
    Labels,
    LayerTarget,
    Mounts,
    Reclaimed,
    SnapshotStatus,
)

# Overlayfs: directories of `lowerdir` are separated by colons; a backslash makes the next
# character plain (kernel, Documentation/filesystems/overlayfs.rst).
_LOWER: Final = re.compile(r"(?:[^:\\]|\\.)+", re.DOTALL)


def target_from_mounts(mounts: Mounts) -> LayerTarget:
    """Derive where a layer is applied from the mounts of an Active snapshot.

    Returns:
        The source of a single writable bind; the upper directory of a single overlay; else
        nothing but the mounts, for core to mount.
    """
    if len(mounts) == 1 and not mounts[0].read_only and not mounts[0].target:
        only = mounts[0]
        if only.type == "bind" or {"bind", "rbind"} & set(only.options):
            return LayerTarget(only.source)
        upper, lower = only.option("upperdir"), only.option("lowerdir")
        if only.type == "overlay" and upper and lower and not _has_odd_lowers(only, lower):
            user = "userxattr" in only.options
            return LayerTarget(
                upper,
                lowers=tuple(re.sub(r"\\(.)", r"\1", each) for each in _LOWER.findall(lower)),
                whiteouts=WhiteoutStyle.OVERLAY_USER if user else WhiteoutStyle.OVERLAY,
            )
    return LayerTarget("", mounts=mounts)


def layer_from_view(mounts: Mounts) -> str:
    """Return where the own layer of a committed snapshot lies, from the mounts of a View of it.

    Returns:
        The source of a single bind; the uppermost lower directory of a single overlay, in which
        parents come nearest first; "" if only mounting them shows it.
    """
    if len(mounts) != 1 or mounts[0].target:
        return ""
    only = mounts[0]
    if only.type == "bind" or {"bind", "rbind"} & set(only.options):
        return only.source
    lower = only.option("lowerdir")
    if only.type != "overlay" or not lower or only.option("upperdir") is not None:
        return ""
    if _has_odd_lowers(only, lower):
        return ""
    return re.sub(r"\\(.)", r"\1", _LOWER.findall(lower)[0])


def _has_odd_lowers(mount: Mount, lower: str) -> bool:
    # Data-only layers ("::") and layers given one by one ("lowerdir+=") are beyond the list.
    return "::" in lower or mount.option("lowerdir+") is not None


class DefaultTarget:
    """`target`: what the mounts say."""

    __slots__ = ("_snapshotter",)

    def __init__(self, snapshotter: Backend) -> None:
        self._snapshotter = snapshotter

    @hookimpl(trylast=True)
    def target(self, key: str) -> LayerTarget:
        """See `SnapshotterSpec.target`."""
        info = self._snapshotter.stat(key=key)
        if info.kind is not Kind.ACTIVE:
            raise FailedPrecondition(
                f"snapshot {key!r} is {info.kind}; layers go to active ones only"
            )
        refuse_mapped(info)
        return target_from_mounts(self._snapshotter.mounts(key=key))


class DefaultStatus:
    """`status`: everything is here, and always was."""

    __slots__ = ("_snapshotter",)

    def __init__(self, snapshotter: SnapshotterSpec) -> None:
        self._snapshotter = snapshotter

    @hookimpl(trylast=True)
    def status(self, key: str) -> SnapshotStatus:
        """See `SnapshotterSpec.status`."""
        self._snapshotter.stat(key=key)
        return SnapshotStatus()


class DefaultPlan:
    """`plan`: nothing is known of layers before they come."""

    __slots__ = ()

    @hookimpl(trylast=True)
    def plan(self, labels: Labels, checkpoint: Checkpoint) -> SnapshotStatus:
        """See `SnapshotterSpec.plan`."""
        del labels
        checkpoint()
        return SnapshotStatus()


class DefaultMarkBroken:
    """`mark_broken`: the backend knows no such state."""

    __slots__ = ()

    @hookimpl(trylast=True)
    def mark_broken(self, name: str) -> Info:
        """See `SnapshotterSpec.mark_broken`.

        Raises:
            Unimplemented: always.
        """
        raise Unimplemented(
            f"snapshot {name!r} cannot be rebuilt in its place by this snapshotter;"
            " remove its images and pull them again"
        )


class DefaultFlush:
    """`flush`: sync the filesystem of the state root."""

    __slots__ = ("_medium",)

    def __init__(self, root: str) -> None:
        self._medium = RootSync(root)

    @hookimpl(trylast=True)
    def flush(self) -> FlushReport:
        """See `SnapshotterSpec.flush`."""
        self._medium.sync()
        return FlushReport(synced=1)

    @hookimpl(wrapper=True)
    def close(self) -> Generator[None, bool, bool]:
        """Let go of the root, whoever closes."""
        try:
            return (yield)
        finally:
            self._medium.close()


class DefaultCleanup:
    """`cleanup`: there is nothing to clean up."""

    __slots__ = ()

    @hookimpl(trylast=True)
    def cleanup(self, checkpoint: Checkpoint) -> Reclaimed:
        """See `SnapshotterSpec.cleanup`."""
        checkpoint()
        return Reclaimed()


class DefaultClose:
    """`close`: the backend holds nothing."""

    __slots__ = ()

    @hookimpl(trylast=True)
    def close(self) -> bool:
        """See `SnapshotterSpec.close`; the facade knows whether it was open."""
        return True


DefaultFactory = Callable[[SnapshotterSpec, str], object]

DEFAULTS: Final[Mapping[str, DefaultFactory]] = {
    "target": lambda snapshotter, _root: DefaultTarget(snapshotter),
    "status": lambda snapshotter, _root: DefaultStatus(snapshotter),
    "plan": lambda _snapshotter, _root: DefaultPlan(),
    "mark_broken": lambda _snapshotter, _root: DefaultMarkBroken(),
    "flush": lambda _snapshotter, root: DefaultFlush(root),
    "cleanup": lambda _snapshotter, _root: DefaultCleanup(),
    "close": lambda _snapshotter, _root: DefaultClose(),
}
"""For each optional hook, what makes its default of the hooks themselves and the root."""
