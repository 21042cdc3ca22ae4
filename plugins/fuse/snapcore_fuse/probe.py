"""Finding out by really mounting whether lazy layers work at a place.

A FUSE filesystem is mounted and served by a process of its own, and overlayfs on top of it in
the form that works there. Nothing is concluded from version numbers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Final

from snapcore.errors import FailedPrecondition, SnapcoreError
from snapcore.linux import MountFlag, UnmountFlag, filesystem_type, mount, umount
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
from snapcore_fuse import trial

_DEVICE: Final = "/dev/fuse"
_PATIENCE_SECONDS: Final = 60


def probe(root: str, mount_options: tuple[str, ...] = ()) -> Probe:
    """Tell whether lazy layers work at `root`, and what the backend can do there.

    Raises:
        InvalidArgument: `mount_options` holds an option that is not the user's to set.
    """
    details = {
        "filesystem": filesystem_type(existing_ancestor(root)),
        "kernel": os.uname().release,
    }
    try:
        form = find_form(root, mount_options)
    except FailedPrecondition as error:
        return Probe(usable=False, reason=str(error), details=details)
    return Probe(
        usable=True,
        capabilities=overlay_capabilities(form) | {Capability.REMOTE},
        details={**details, "mode": "tree", "options": ",".join(form.options)},
        findings=form,
    )


def find_form(root: str, mount_options: tuple[str, ...] = ()) -> OverlayForm:
    """Return the form of overlayfs that works at `root` over a FUSE filesystem.

    Raises:
        InvalidArgument: `mount_options` holds an option that is not the user's to set.
        FailedPrecondition: nothing works; the message says why.
    """
    if find_spec("pyfuse3") is None:
        raise FailedPrecondition(
            "pyfuse3 is not installed; it is built with libfuse3-dev, fuse3, pkg-config and gcc"
        )
    # The kernel maps no ids of a FUSE filesystem that has not asked for it.
    form = replace(find_overlay_form(root, mount_options), remap_ids=False)
    try:
        with (
            trial_directory(root) as directory,
            _served(directory) as lower,
            trial_overlay(directory, lower, form.options) as merged,
        ):
            try_to_change(merged, trial.NAME, trial.DATA, "a file of a FUSE layer")
    except OSError as error:
        where = existing_ancestor(root)
        raise FailedPrecondition(f"cannot try FUSE at {where!r}: {error.strerror}") from error
    except SnapcoreError as error:
        raise FailedPrecondition(f"overlay over FUSE does not work here: {error}") from error
    return form


@contextmanager
def _served(directory: str) -> Iterator[str]:
    """Mount the trial filesystem for the duration of a `with` block and yield where."""
    target = os.path.join(directory, "lower")
    os.mkdir(target)
    try:
        device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise FailedPrecondition(f"cannot open {_DEVICE!r}: {error.strerror}") from error
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", trial.__file__, str(device)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(device,),
        )
        try:
            options = f"fd={device},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}"
            mount("snapcore", target, "fuse", MountFlag.RDONLY, f"{options},allow_other")
        except BaseException:
            process.kill()
            process.wait()
            raise
    finally:
        # The child alone holds it: were it to die, no request would wait for it.
        os.close(device)
    try:
        yield target
    finally:
        umount(target, UnmountFlag.DETACH)
        process.wait(_PATIENCE_SECONDS)
