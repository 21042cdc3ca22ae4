"""Finding out by really mounting which form of overlayfs works at a place.

Two forms exist: with `trusted.overlay.*` xattrs, which need privilege in the initial user
namespace, and with `user.overlay.*` (mount option `userxattr`, Linux 5.11), which work in any
(kernel, Documentation/filesystems/overlayfs.rst). Nothing is concluded from version numbers.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final

from snapcore.errors import FailedPrecondition, InvalidArgument, SnapcoreError, from_os_error
from snapcore.linux import filesystem_type, kernel_filesystems
from snapcore.mount import IdMap, IdMapping, Mount, takes_lowers_one_by_one, temporary_mount
from snapcore.oci.whiteout import WhiteoutStyle
from snapcore.snapshots.trial import existing_ancestor, trial_directory
from snapcore.snapshots.types import Capability

_FORBIDDEN_IN_ROOT: Final = ",:\\\n"
_OWN_OPTIONS: Final = ("lowerdir", "upperdir", "workdir", "redirect_dir", "metacopy", "userxattr")

_CONTEXTS: Final = ("context", "fscontext", "defcontext", "rootcontext")
_LABEL: Final = re.compile(r"[\w.-]+:[\w.-]+:[\w.-]+(?::[\w.,:-]*[\w])?", re.ASCII)

# Inherited settings of the host must not decide how layers are read: an attacker's redirect
# or metacopy xattr could make other files appear. `userxattr` implies both by itself, and does
# not stand beside an explicit redirect_dir.
_TRUSTED: Final = (
    ("index=off", "redirect_dir=nofollow", "metacopy=off"),
    ("index=off", "redirect_dir=nofollow"),
    ("redirect_dir=nofollow", "metacopy=off"),
    ("redirect_dir=nofollow",),
)
_USER: Final = (("index=off", "userxattr"), ("userxattr",))


@dataclass(frozen=True, slots=True)
class OverlayForm:
    """The form of overlayfs that works here.

    Attributes:
        style: how whiteouts and opaque marks are written.
        options: what every overlay mount carries, the user's own options last.
        rename_directory: whether directories of lower layers can be renamed.
        remap_ids: whether lower layers can be shown with other ids.
        one_by_one: whether lower layers can be named one by one, instead of in one page.
    """

    style: WhiteoutStyle
    options: tuple[str, ...]
    rename_directory: bool
    remap_ids: bool = False
    one_by_one: bool = False


def find_overlay_form(
    root: str, mount_options: tuple[str, ...] = (), selinux_context: str = ""
) -> OverlayForm:
    """Try the forms of overlayfs at `root`, or at the nearest directory above it that exists.

    Args:
        root: the state root.
        mount_options: the user's own options for overlay mounts.
        selinux_context: label that everything in overlay mounts shall have, "" for the files' own.

    Returns:
        The first form that does everything a snapshotter needs.

    Raises:
        InvalidArgument: an option is not the user's to set, or the label is none.
        FailedPrecondition: none does; the message says why.
    """
    _check_options(mount_options)
    wanted = (*mount_options, *_context_option(selinux_context))
    if selinux_context and "selinuxfs" not in kernel_filesystems():
        raise FailedPrecondition(
            f"selinux_context is {selinux_context!r}, and this kernel runs without SELinux; remove"
            " the option, or boot with SELinux enabled"
        )
    if any(character in root for character in _FORBIDDEN_IN_ROOT):
        raise FailedPrecondition(
            f"state root {root!r} holds a comma, colon, backslash or newline,"
            " which overlay options cannot carry; choose another"
        )
    place = existing_ancestor(root)
    try:
        kind = filesystem_type(place)
        if kind == "overlay":
            raise FailedPrecondition(
                f"{place!r} is on overlayfs, which cannot be the upper layer of another overlay;"
                " put the state root on another filesystem"
            )
        with trial_directory(place) as directory:
            _require_entry_types(directory)
            return _first_that_works(directory, wanted)
    except OSError as error:
        raise FailedPrecondition(f"cannot try overlay at {place!r}: {error.strerror}") from error


def untried_overlay_form(
    mount_options: tuple[str, ...] = (), selinux_context: str = ""
) -> OverlayForm:
    """Return the form to look at a root with that cannot be written, where nothing can be tried.

    It says how the mounts of what is there would look to a privileged process.

    Raises:
        InvalidArgument: as `find_overlay_form`.
    """
    _check_options(mount_options)
    options = (*_TRUSTED[0], *mount_options, *_context_option(selinux_context))
    return OverlayForm(WhiteoutStyle.OVERLAY, options, rename_directory=False)


def overlay_capabilities(form: OverlayForm) -> frozenset[Capability]:
    """Return what the backend can do with this form of overlayfs."""
    found = {Capability.REBASE, Capability.HARDLINKS, Capability.READONLY_VIEW}
    if form.style is WhiteoutStyle.OVERLAY_USER:
        found.add(Capability.USERXATTR)
    if form.rename_directory:
        found.add(Capability.RENAME_DIR)
    if form.remap_ids:
        found.add(Capability.REMAP_IDS)
    return frozenset(found)


def _context_option(label: str) -> tuple[str, ...]:
    """Return the mount option for an SELinux label, none for none.

    In quotes, since a label has commas between categories (kernel, security/selinux/hooks.c).

    Raises:
        InvalidArgument: it is no label.
    """
    if not label:
        return ()
    if not _LABEL.fullmatch(label):
        raise InvalidArgument(
            f"selinux_context: {label!r} is no SELinux label (want user:role:type[:level], such as"
            " system_u:object_r:container_file_t:s0:c1,c2)"
        )
    return (f'context="{label}"',)


def _check_options(mount_options: tuple[str, ...]) -> None:
    for option in mount_options:
        name = option.partition("=")[0]
        if name in _OWN_OPTIONS:
            raise InvalidArgument(
                f"mount_options: {option!r} is set by the snapshotter itself; remove it"
            )
        if name in _CONTEXTS:
            raise InvalidArgument(
                f"mount_options: {option!r} is set by the option selinux_context; use that"
            )
        if name == "volatile" or option == "fsync=volatile":
            raise InvalidArgument(
                f"mount_options: {option!r} would drop what flush promises; remove it"
            )
        if "," in option or not option:
            raise InvalidArgument(f"mount_options: {option!r} is not one option")


def _require_entry_types(directory: str) -> None:
    """Check that the filesystem tells entry types with the names (d_type of readdir(3))."""
    probe_file = os.path.join(directory, "d_type")
    os.close(os.open(probe_file, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    with os.scandir(directory) as entries:
        entry = next(entries)
    os.unlink(probe_file)
    # Without d_type Python would have to look at the file, which is gone.
    if not entry.is_file(follow_symlinks=False):
        raise FailedPrecondition(
            f"the filesystem at {os.path.dirname(directory)!r} does not tell entry types (d_type),"
            " which overlay needs; xfs must be made with ftype=1"
        )


def _first_that_works(directory: str, mount_options: tuple[str, ...]) -> OverlayForm:
    refusals: dict[WhiteoutStyle, str] = {}
    indexed = any(option.startswith("index=") for option in mount_options)
    for style, sets in ((WhiteoutStyle.OVERLAY, _TRUSTED), (WhiteoutStyle.OVERLAY_USER, _USER)):
        for number, options in enumerate(sets):
            own = tuple(o for o in options if not (indexed and o.startswith("index=")))
            wanted = own + mount_options
            trial = os.path.join(directory, f"{style}-{number}")
            try:
                rename = _try(trial, style, wanted)
            except SnapcoreError as error:
                refusals.setdefault(style, str(error))
            else:
                one_by_one = takes_lowers_one_by_one(_lowers(trial), wanted)
                return OverlayForm(style, wanted, rename, _can_remap(trial, wanted), one_by_one)
    # The first refusal of each form; the others only follow from trying harder.
    raise FailedPrecondition(
        f"overlay does not work here: {refusals[WhiteoutStyle.OVERLAY]}; and with userxattr:"
        f" {refusals[WhiteoutStyle.OVERLAY_USER]}"
    )


def _try(trial: str, style: WhiteoutStyle, options: tuple[str, ...]) -> bool:
    """Mount two layers and check that all of overlay's semantics hold.

    Returns:
        Whether a directory of the lower layer can be renamed.

    Raises:
        SnapcoreError: something does not work; the message says what.
    """
    lower, bottom, upper, work, merged = (
        os.path.join(trial, name) for name in ("lower", "bottom", "upper", "work", "merged")
    )
    step = "make directories"
    try:
        for path in (lower, bottom, upper, work, merged):
            os.makedirs(path)
        for path in ("gone", "removed", "opaque/hidden", "directory/file"):
            os.makedirs(os.path.join(bottom, path))
        step = "make a whiteout (mknod of device 0:0)"
        os.mknod(os.path.join(upper, "gone"), 0o20000, os.makedev(0, 0))
        step = f"set {style.opaque_xattr}"
        os.mkdir(os.path.join(upper, "opaque"))
        os.setxattr(os.path.join(upper, "opaque"), style.opaque_xattr, b"y")
        mount = Mount(
            "overlay",
            "overlay",
            options=(
                *options,
                f"workdir={work}",
                f"upperdir={upper}",
                f"lowerdir={lower}:{bottom}",
            ),
        )
        with temporary_mount((mount,), merged, volatile=True) as seen:
            step = "read the merged tree"
            names = sorted(os.listdir(seen))
            if names != ["directory", "opaque", "removed"]:
                raise FailedPrecondition(f"a whiteout is not honoured: {names}")
            if os.listdir(os.path.join(seen, "opaque")):
                raise FailedPrecondition(f"{style.opaque_xattr} is not honoured")
            step = "write to and delete from the merged tree"
            os.mkdir(os.path.join(seen, "directory/file/new"))
            os.rmdir(os.path.join(seen, "removed"))
            return _can_rename(os.path.join(seen, "directory"))
    except OSError as error:
        raise from_os_error(error, f"overlay cannot {step}") from error


def _lowers(trial: str) -> tuple[str, ...]:
    return tuple(os.path.join(trial, name) for name in ("lower", "bottom"))


def _can_remap(trial: str, options: tuple[str, ...]) -> bool:
    """Try to show two lower layers with other ids."""
    ids = IdMap(((0, 100_000, 65_536),))
    lowers = ":".join(_lowers(trial))
    wanted = (*IdMapping(ids, ids).options, *options, "ro", f"lowerdir={lowers}")
    try:
        with temporary_mount((Mount("overlay", "overlay", options=wanted),), trial) as seen:
            return os.stat(os.path.join(seen, "removed")).st_uid == 100_000
    except SnapcoreError:
        return False


def _can_rename(path: str) -> bool:
    try:
        os.rename(path, path + "-renamed")
    except OSError:
        return False  # EXDEV: overlay(5) wants redirect_dir=on for that
    return True
