"""Finding out by really mounting whether images of layers can be used at a place.

An image that points into another file is mounted from the state root's own filesystem, and
overlayfs on top of it, twice, as a container's own layers would be. Nothing is concluded from
version numbers.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from snapcore.archive.virtual import Attributes, Directory, Leaf
from snapcore.erofs import Place, write_image
from snapcore.errors import FailedPrecondition, SnapcoreError
from snapcore.linux import UnmountFlag, filesystem_type, kernel_filesystems, umount
from snapcore.snapshots import (
    Capability,
    OverlayForm,
    Probe,
    existing_ancestor,
    find_overlay_form,
    overlay_capabilities,
    trial_directory,
    trial_overlay,
    try_to_change,
)
from snapcore_erofs.image import mount_image

_NAME: Final = b"file"
_DATA: Final = b"read through EROFS\n"
_WHY: Final = {
    errno.EPERM: "mounting it takes root outside of a user namespace",
    errno.ENOENT: "images that are files cannot be mounted from this filesystem, or by this kernel"
    " (before Linux 6.12), and there are no loop devices",
    errno.ENODEV: "this kernel has no EROFS",
    errno.EINVAL: "this kernel cannot read such images: blocks of 512 bytes, in several files",
}


@dataclass(frozen=True, slots=True)
class Found:
    """What was found to work.

    Attributes:
        form: of overlayfs over an image.
        as_files: whether images are mounted as plain files, and not by loop devices.
    """

    form: OverlayForm
    as_files: bool


def probe(root: str, mount_options: tuple[str, ...] = ()) -> Probe:
    """Tell whether images work at `root`, and what the backend can do there.

    Raises:
        InvalidArgument: `mount_options` holds an option that is not the user's to set.
    """
    details = {
        "filesystem": filesystem_type(existing_ancestor(root)),
        "kernel": os.uname().release,
        "erofs": "yes" if "erofs" in kernel_filesystems() else "not loaded",
    }
    try:
        found = find_form(root, mount_options)
    except FailedPrecondition as error:
        return Probe(usable=False, reason=str(error), details=details)
    mode = "files" if found.as_files else "loop devices"
    return Probe(
        usable=True,
        capabilities=overlay_capabilities(found.form) | {Capability.OWN_APPLY},
        details={**details, "images": mode, "options": ",".join(found.form.options)},
        findings=found.form,
    )


def find_form(root: str, mount_options: tuple[str, ...] = ()) -> Found:
    """Return what works at `root`.

    Raises:
        InvalidArgument: `mount_options` holds an option that is not the user's to set.
        FailedPrecondition: nothing works; the message says why.
    """
    # Whether the kernel maps ids of an image is not tried.
    form = replace(find_overlay_form(root, mount_options), remap_ids=False)
    try:
        with trial_directory(root) as directory, _mounted(directory) as (lower, as_files):
            _try(directory, lower, form)
    except OSError as error:
        where = existing_ancestor(root)
        why = _WHY.get(error.errno or 0, error.strerror)
        raise FailedPrecondition(f"EROFS does not work at {where!r}: {why}") from error
    except SnapcoreError as error:
        raise FailedPrecondition(f"overlay over EROFS does not work here: {error}") from error
    return Found(form, as_files)


@contextmanager
def _mounted(directory: str) -> Iterator[tuple[str, bool]]:
    """Mount an image with one file; yield where, and whether as plain files."""
    image, data, target = (os.path.join(directory, name) for name in ("image", "data", "lower"))
    with open(data, "wb") as file:
        # The kernel reads whole blocks.
        file.write(bytes(512) + _DATA.ljust(512, b"\0"))
    root: Directory[Place] = Directory(Attributes(0o755, 0, 0, 0))
    root.children[_NAME] = Leaf(0o100644, 0, 0, 0, size=len(_DATA), place=Place(1, 512))
    with open(image, "wb+") as file:
        write_image(root, {1: os.stat(data).st_size}, file.fileno())
    os.mkdir(target)
    as_files = mount_image(image, [data], target)
    try:
        yield target, as_files
    finally:
        umount(target, UnmountFlag.DETACH)


def _try(directory: str, lower: str, form: OverlayForm) -> None:
    """Change files in an overlay over an image, and first in another one over that.

    As a container engine inside of a container does.
    """
    with trial_overlay(directory, lower, form.options) as merged:
        with trial_overlay(directory, merged, form.options) as nested:
            try_to_change(nested, _NAME, _DATA, "a file of an image under two overlays")
        try_to_change(merged, _NAME, _DATA, "a file of an image")
