"""The merged tree that a layer is applied to, walked by directory descriptors.

A directory of the merged tree is a pair: the upper directory, which is written, and the lower
one, which the kernel has merged from all layers below. Where the target shows the whole tree by
itself there is no lower, and every rule here degenerates to the plain one.

No path is ever resolved by the kernel through a symlink, and none that was resolved is kept:
only the last directory stays open, under the name that the layer used for it, and it is given up
whenever a directory or a symlink, which that name may lead through, is removed or replaced.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from snapcore.archive.deferred import DeferredDirectories
from snapcore.archive.failures import Blocked, Missing, Path
from snapcore.archive.handles import Directory, Seen, lookup
from snapcore.archive.journal import Journal, Was
from snapcore.archive.metadata import AttributeWriter, has_default_acl, read_xattrs
from snapcore.archive.remove import remove_children, remove_name
from snapcore.archive.types import Destination, Steps
from snapcore.archive.walk import Observer, unobserved, walk
from snapcore.linux import Cap, Resolve, effective_capabilities, openat2
from snapcore.oci.whiteout import WhiteoutStyle

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_PATH: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RESOLVE: Final = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS
_NOT_DIRECTORY: Final = (errno.ENOTDIR, errno.ELOOP)
_MAX_PATH: Final = 4000
_IMPLIED_MODE: Final = 0o755


class MergedTree:
    """The tree, and the one directory of it that is open."""

    def __init__(
        self, destination: Destination, writer: AttributeWriter, journal: Journal, steps: Steps
    ) -> None:
        self._directory: Final = destination.directory
        self._lower = destination.lower
        self._overlay: Final = destination.style is not WhiteoutStyle.APPLY
        self._writer: Final = writer
        self._journal: Final = journal
        self._steps: Final = steps
        self._privileged: Final = Cap.DAC_OVERRIDE in effective_capabilities()
        self.deferred: Final = DeferredDirectories()
        # Upper directories through which nothing of the lower tree shines.
        self._sealed: set[Path] = set()
        self._key: Path | None = None
        self._open: Directory | None = None

    # --- the entries' parents -------------------------------------------------------------

    def parent(self, raw: Path) -> Directory:
        """Return the directory in which an entry goes; valid until the next call.

        Missing directories are made (0755, 0:0, time 0), those that are only below copied up.

        Args:
            raw: the parent as the entry names it.

        Raises:
            Blocked: something on the way is not a directory.
            OSError: as the calls that open and make.
        """
        if self._open is None or raw != self._key:
            self.close()
            self._open, self._key = self._open_parent(raw), raw
        directory = self._open
        if not directory.ready:
            self._journal.populate(directory.path)
            self._make_ready(directory)
        return directory

    def is_open(self, raw: Path) -> bool:
        """Tell whether `parent` would return the directory that is open."""
        return raw == self._key

    def stay_in(self, raw: Path, directory: Directory) -> None:
        """Keep a directory that was just made or opened by the name `raw` as the open one."""
        self.close()
        self._open, self._key = directory, raw

    def forget(self) -> None:
        """Give up the open directory's name: it may lead elsewhere now. It is closed later."""
        self._key = None

    def close(self) -> None:
        """Close the open directory."""
        if self._open is not None:
            self._open.close()
            self._open, self._key = None, None

    def _open_parent(self, raw: Path) -> Directory:
        return self._open_fast(raw) or walk(raw, self._root, self._touching, self._make_step)

    def _open_fast(self, raw: Path) -> Directory | None:
        """Open a directory that is there already in one call; None if it is not that simple."""
        joined = b"/".join(raw)
        if not raw or len(joined) > _MAX_PATH or not self._privileged:
            return None
        try:
            upper = openat2(self._directory, joined, _OPEN, _RESOLVE)
        except OSError:
            # The slow way finds out what there is, or fails the same way.
            return None
        return self._paired(raw, upper, self._lower, joined)

    def _touching(self, path: Path, last: bool) -> None:
        del last
        self._journal.populate(path[:-1])
        self._journal.touch(path)

    # --- walking ----------------------------------------------------------------------------

    def see(self, raw: Path, observer: Observer) -> Seen:
        """Open a directory for looking, following symlinks inside the root.

        Raises:
            Blocked: it does not exist, or leads through what is not a directory.
        """
        return walk(raw, self._seen_root, observer, self._see_step)

    def see_for_link(self, raw: Path) -> Seen:
        """As `see`, for an entry: the journal learns what the way leads through."""
        return walk(raw, self._seen_root, self._touching, self._link_step)

    def see_plain(self, path: Path) -> Seen:
        """Open a directory for looking by its canonical path, which has no symlinks.

        Raises:
            Blocked: it is not there.
        """
        return walk(path, self._seen_root, unobserved, self._plain_step)

    def enter(self, path: Path) -> Directory:
        """Open a directory of the merged tree for writing by its canonical path.

        The journal does not hear of it; what is only below is copied up.

        Raises:
            Blocked: it is not there.
        """
        directory = walk(path, self._root, unobserved, self._copy_step)
        try:
            self._make_ready(directory)
        except BaseException:
            directory.close()
            raise
        return directory

    def _root(self) -> Directory:
        return Directory((), self._directory, self._lower, owned=False)

    def _seen_root(self) -> Seen:
        return Seen((), self._directory, self._lower, owned=False)

    def _see_step(self, here: Seen, name: bytes, path: Path) -> Seen | bytes:
        found = self._peek(here.upper, here.lower, name, path)
        if found is None:
            raise Missing(f"{path[-1][:100]!r} on its way does not exist")
        return found if isinstance(found, bytes) else Seen(path, *found, owned=True)

    def _link_step(self, here: Seen, name: bytes, path: Path) -> Seen | bytes:
        found = self._see_step(here, name, path)
        if isinstance(found, bytes):
            self._journal.follow(path)
        return found

    def _plain_step(self, here: Seen, name: bytes, path: Path) -> Seen:
        found = self._see_step(here, name, path)
        if isinstance(found, bytes):
            raise Blocked(f"{path[-1][:100]!r} on its way is a symlink")
        return found

    def _copy_step(self, here: Directory, name: bytes, path: Path) -> Directory | bytes:
        found = self._peek(here.upper, here.lower, name, path)
        if found is None or isinstance(found, bytes):
            raise Blocked(f"{path[-1][:100]!r} on its way is gone")
        return self._entered(here, name, path, found)

    def _make_step(self, here: Directory, name: bytes, path: Path) -> Directory | bytes:
        found = self._peek(here.upper, here.lower, name, path)
        if isinstance(found, bytes):
            self._journal.follow(path)
            return found
        if found is not None:
            return self._entered(here, name, path, found)
        self._journal.imply(path)
        made = self.make_directory(here, name)
        try:
            os.fchown(made.upper, *self._writer.owner(0, 0))
            os.fchmod(made.upper, _IMPLIED_MODE)
            self._writer.replace_xattrs(made.upper, ())
            self.deferred.set(path, os.fstat(made.upper), 0, _IMPLIED_MODE)
        except BaseException:
            made.close()
            raise
        return made

    def _entered(
        self, here: Directory, name: bytes, path: Path, found: tuple[int | None, int | None]
    ) -> Directory:
        upper, lower = found
        if upper is not None:
            return Directory(path, upper, lower)
        assert lower is not None
        try:
            self._make_ready(here)
            upper = self._make_upper(here, name)
        except BaseException:
            os.close(lower)
            raise
        directory = Directory(path, upper, lower)
        try:
            self.copy_attributes(path, lower, upper)
        except BaseException:
            directory.close()
            raise
        return directory

    def _peek(
        self, upper: int | None, lower: int | None, name: bytes, path: Path
    ) -> tuple[int | None, int | None] | bytes | None:
        """Look at one component: a directory's descriptors, a link's target, None for nothing."""
        if upper is not None:
            try:
                opened = self._open_upper(upper, name, path)
            except FileNotFoundError:
                pass
            except OSError as error:
                return self._peek_other(error, upper, name)
            else:
                pair = self._paired(path, opened, lower, name)
                return pair.upper, pair.lower
        if lower is None:
            return None
        try:
            return None, os.open(name, _OPEN_PATH, dir_fd=lower)
        except FileNotFoundError:
            return None
        except OSError as error:
            return self._peek_other(error, lower, name)

    def _peek_other(self, error: OSError, place: int, name: bytes) -> bytes | None:
        if error.errno == errno.ENAMETOOLONG:
            raise Blocked("a symlink on its way names what no filesystem can hold") from error
        if error.errno not in _NOT_DIRECTORY:
            raise error
        status = os.stat(name, dir_fd=place, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            return os.readlink(name, dir_fd=place)
        if self.is_whiteout(status):
            return None
        raise Blocked(f"{name[:100]!r} on its way is not a directory") from error

    def _open_upper(self, above: int, name: bytes, path: Path) -> int:
        if self._privileged:
            return os.open(name, _OPEN, dir_fd=above)
        # Without privilege a directory may keep even its owner out.
        descriptor = os.open(name, _OPEN_PATH, dir_fd=above)
        try:
            status = os.fstat(descriptor)
            mode = stat.S_IMODE(status.st_mode)
            if mode & stat.S_IRWXU != stat.S_IRWXU and status.st_uid == os.geteuid():
                os.chmod(f"/proc/self/fd/{descriptor}", mode | stat.S_IRWXU)
                if not self.deferred.keeps(path):
                    self.deferred.set(path, status, status.st_mtime_ns, mode)
            return os.open(b".", _OPEN, dir_fd=descriptor)
        finally:
            os.close(descriptor)

    def _paired(self, path: Path, upper: int, above: int | None, name: bytes) -> Directory:
        """Return an upper directory with what shines through it from below."""
        lower = None
        if above is not None and path not in self._sealed:
            try:
                lower = openat2(above, name, _OPEN_PATH, _RESOLVE)
            except OSError as error:
                if error.errno not in (errno.ENOENT, *_NOT_DIRECTORY):
                    os.close(upper)
                    raise
        return Directory(path, upper, lower)

    # --- changing ---------------------------------------------------------------------------

    def is_whiteout(self, status: os.stat_result) -> bool:
        """Tell whether a node of the upper directory hides the name below it."""
        return self._overlay and stat.S_ISCHR(status.st_mode) and status.st_rdev == 0

    def find(self, directory: Seen | Directory, name: bytes) -> tuple[os.stat_result, bool] | None:
        """Return what the merged tree has under a name, and whether it is in the upper one."""
        if directory.upper is not None and (status := lookup(directory.upper, name)):
            return None if self.is_whiteout(status) else (status, True)
        if directory.lower is not None and (status := lookup(directory.lower, name)):
            return status, False
        return None

    def vacate(self, directory: Directory, name: bytes, after: Was) -> None:
        """Make sure that the upper directory has nothing under a name, for a new node there.

        What is only below needs no removal: the new node hides it.

        Args:
            directory: ready for writing.
            name: the name.
            after: what comes there.
        """
        found = self.find(directory, name)
        self._change(directory, name, Was.of(found and found[0]), after)
        if found is None or found[1]:
            try:
                remove_name(directory.upper, name)
            except FileNotFoundError:
                if found is not None:
                    raise

    def erase(self, directory: Directory, name: bytes) -> None:
        """Remove a name from the merged tree, if it is there, on behalf of a whiteout."""
        found = self.find(directory, name)
        if found is None:
            return
        self._change(directory, name, Was.of(found[0]), Was.ABSENT)
        if found[1]:
            remove_name(directory.upper, name)
        if directory.lower is not None and lookup(directory.lower, name) is not None:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=directory.upper)

    def _change(self, directory: Directory, name: bytes, before: Was, after: Was) -> None:
        self._journal.change((*directory.path, name), before, after)
        if before.leads_on:
            self.forget()

    def empty(self, path: Path) -> None:
        """Remove everything that a directory has, on behalf of an opaque marker."""
        self.forget()
        directory = self.enter(path)
        try:
            remove_children(directory.upper)
            if directory.lower is not None:
                self.seal(path, directory.upper)
        finally:
            directory.close()

    def make_directory(self, directory: Directory, name: bytes) -> Directory:
        """Make a directory where the merged tree has nothing; nothing shines through it.

        Returns:
            The new one, with mode 0700, without times.
        """
        path = (*directory.path, name)
        self._make_ready(directory)
        self._journal.change(path, Was.ABSENT, Was.DIRECTORY)
        upper = self._make_upper(directory, name)
        made = Directory(path, upper, None)
        try:
            if directory.lower is not None:
                below = lookup(directory.lower, name)
                if below is not None and stat.S_ISDIR(below.st_mode):
                    self.seal(path, upper)
            if self._lower is not None:
                self._sealed.add(path)
        except BaseException:
            made.close()
            raise
        return made

    def merge_directory(self, directory: Directory, name: bytes) -> Directory | None:
        """Open the directory that the merged tree has under a name, for new attributes.

        Returns:
            The directory, in the upper tree even if it was only below, but then without any
            attributes; None if there is no directory under that name.
        """
        path = (*directory.path, name)
        try:
            upper = self._open_upper(directory.upper, name, path)
        except FileNotFoundError:
            return self._merge_lower(directory, name, path)
        except OSError as error:
            if error.errno in _NOT_DIRECTORY:
                return None
            raise
        return self._paired(path, upper, directory.lower, name)

    def _merge_lower(self, directory: Directory, name: bytes, path: Path) -> Directory | None:
        if directory.lower is None:
            return None
        try:
            lower = os.open(name, _OPEN_PATH, dir_fd=directory.lower)
        except OSError as error:
            if error.errno in (errno.ENOENT, *_NOT_DIRECTORY):
                return None
            raise
        try:
            return Directory(path, self._make_upper(directory, name), lower)
        except BaseException:
            os.close(lower)
            raise

    def copy_attributes(self, path: Path, lower: int, upper: int) -> None:
        """Give an upper directory the owner, mode, xattrs and time of the one below it."""
        status = os.fstat(lower)
        mode = stat.S_IMODE(status.st_mode)
        os.fchown(upper, *self._writer.owner(status.st_uid, status.st_gid))
        os.fchmod(upper, mode | stat.S_IRWXU)
        self._writer.replace_xattrs(upper, read_xattrs(b"/proc/self/fd/%d" % lower))
        self.deferred.set(path, os.fstat(upper), status.st_mtime_ns, mode)

    def _make_upper(self, directory: Directory, name: bytes) -> int:
        try:
            os.mkdir(name, stat.S_IRWXU, dir_fd=directory.upper)
        except FileExistsError:
            # A whiteout of this layer: what it hides is hidden by the directory's opaque mark.
            os.unlink(name, dir_fd=directory.upper)
            os.mkdir(name, stat.S_IRWXU, dir_fd=directory.upper)
        return os.open(name, _OPEN, dir_fd=directory.upper)

    def seal(self, path: Path, upper: int) -> None:
        """Let nothing of the layers below shine through an open upper directory any more."""
        self._steps.mark_opaque(upper)
        self._sealed.add(path)
        if not path:
            self._lower = None

    def _make_ready(self, directory: Directory) -> None:
        """Write down how a directory must look in the end, before anything in it changes."""
        status = os.fstat(directory.upper)
        mode = stat.S_IMODE(status.st_mode)
        if not self.deferred.keeps(directory.path):
            self.deferred.set(directory.path, status, status.st_mtime_ns, mode)
        if not self._privileged and mode & stat.S_IRWXU != stat.S_IRWXU:
            os.fchmod(directory.upper, mode | stat.S_IRWXU)
        inherits = mode & stat.S_ISGID or has_default_acl(directory.upper)
        directory.plain = not inherits
        directory.ready = True
