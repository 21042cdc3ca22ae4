"""Finding out by trying what a copying backend can do at a place."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from snapcore.errors import SnapcoreError
from snapcore.linux import ficlone, filesystem_type
from snapcore.mount import IdMap, IdMapping, Mount, temporary_mount
from snapcore.snapshots import Capability, Probe, existing_ancestor, trial_directory

_CAPABILITY_XATTR: Final = bytes.fromhex("01000002 00200000 00000000 00000000 00000000")
"""A `security.capability` of revision 2 (capabilities(7)) with cap_net_raw."""


def probe(root: str) -> Probe:
    """Try links, xattrs, devices and reflinks in a directory that is removed again.

    Args:
        root: the state root; if it does not exist yet, the nearest directory above it is used.

    Returns:
        Usable wherever symlinks can be made; the rest is in `capabilities` and `details`.
    """
    place = existing_ancestor(root)
    try:
        with trial_directory(place) as directory:
            return _try_all(directory, place)
    except OSError as error:
        return Probe(usable=False, reason=f"cannot write in {place!r}: {error.strerror}")


def _try_all(directory: str, place: str) -> Probe:
    file = os.path.join(directory, "file")
    with open(file, "wb") as stream:
        stream.write(b"x" * 65536)
    details = {"filesystem": filesystem_type(place)}
    trials: dict[str, Callable[[], None]] = {
        "symlinks": lambda: os.symlink("file", os.path.join(directory, "symlink")),
        "hardlinks": lambda: os.link(file, os.path.join(directory, "link")),
        "user_xattrs": lambda: os.setxattr(file, "user.snapcore", b"1"),
        "trusted_xattrs": lambda: os.setxattr(file, "trusted.snapcore", b"1"),
        "capabilities": lambda: os.setxattr(file, "security.capability", _CAPABILITY_XATTR),
        "owners": lambda: os.chown(file, 12345, 12345),
        "devices": lambda: os.mknod(os.path.join(directory, "null"), 0o20600, os.makedev(1, 3)),
        "reflink": lambda: _clone(file, os.path.join(directory, "clone")),
    }
    for name, trial in trials.items():
        details[name] = _outcome(trial)
    if details["symlinks"] != "yes":
        reason = f"{place!r} is on {details['filesystem']}, which has no symlinks"
        return Probe(usable=False, reason=reason, details=details)
    capabilities = {Capability.READONLY_VIEW, Capability.RENAME_DIR}
    if details["hardlinks"] == "yes":
        capabilities.add(Capability.HARDLINKS)
    if _can_remap(directory):
        capabilities.add(Capability.REMAP_IDS)
    return Probe(usable=True, capabilities=frozenset(capabilities), details=details)


def _can_remap(directory: str) -> bool:
    """Try to show a directory with other ids."""
    source = os.path.join(directory, "mapped")
    os.mkdir(source)
    ids = IdMap(((os.geteuid(), 100_000, 1),))
    options = ("rbind", *IdMapping(ids, IdMap(((os.getegid(), 100_000, 1),))).options)
    try:
        with temporary_mount((Mount("bind", source, options=options),), directory) as seen:
            return os.stat(seen).st_uid == 100_000
    except SnapcoreError:
        return False


def _outcome(trial: Callable[[], None]) -> str:
    try:
        trial()
    except OSError as error:
        return f"no ({errno.errorcode.get(error.errno or 0, 'error')})"
    return "yes"


def _clone(source: str, target: str) -> None:
    descriptors: list[int] = []
    try:
        descriptors.append(os.open(source, os.O_RDONLY | os.O_CLOEXEC))
        descriptors.append(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        ficlone(descriptors[1], descriptors[0])
    finally:
        for descriptor in descriptors:
            with suppress(OSError):
                os.close(descriptor)
