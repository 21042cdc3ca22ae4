"""Mutants of the native snapshotter that the conformance suite cannot catch, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a mutant.

    Attributes:
        verdict: `same` if it does the same by another way, so that there is nothing to catch;
            `unseen` if it is a fault that a check of the contract cannot bring about.
        why: the reason, in one sentence.
    """

    verdict: Literal["same", "unseen"]
    why: str


def _all(verdict: Literal["same", "unseen"], why: str, *mutants: str) -> dict[str, Known]:
    return {mutant: Known(verdict, why) for mutant in mutants}


KNOWN: Final[dict[str, Known]] = {
    **_all(
        "same",
        "the plugin gives both",
        "native.NativeSnapshotter.__init__: False -> True in False, remap_ids: bool = False) "
        "-> None:",
        "native.NativeSnapshotter.__init__: False -> True in False) -> None:",
    ),
    **_all(
        "same",
        "it makes a view without going through files, so there is nothing to ask during",
        "native.NativeSnapshotter.view: checkpoint() -> None",
    ),
    **_all(
        "same",
        "a mode that is set again when the file is done, or goes with it",
        "native.NativeSnapshotter._copy: 448 -> 449 in 0o700)",
        "copy._TreeCopier._descend: 448 -> 449 in 0o700, dir_fd=self._target)",
        "copy._TreeCopier._copy_file: 384 -> 385 in 0o600, dir_fd=self._target)",
        "copy._TreeCopier._copy_node: 384 -> 385 in 0o600, status.st_rdev, dir_fd=self._target)",
    ),
    **_all(
        "same",
        "nobody but root comes to where the file is",
        "stamp.write_stamp: 384 -> 385 in 0o600)",
    ),
    **_all(
        "same",
        "an empty directory that goes when the snapshot goes",
        "native.NativeSnapshotter._copy: os.rmdir(spare) -> None",
    ),
    **_all(
        "same",
        "nothing ever sets a field of it, or hashes it",
        "copy.CopyReport: True -> False in True, slots=True)",
        "copy.CopyReport: True -> False in True)",
        "copy._Level: True -> False in True)",
    ),
    **_all(
        "same",
        "any number below 0 says that nothing is open, and 0 is not ours",
        "copy._TreeCopier.__init__: 1 -> 2 in 1",
        "copy._TreeCopier.close: 0 -> 1 in 0:",
        "copy._TreeCopier.close: 1 -> 2 in 1",
    ),
    **_all(
        "same",
        "a name that was to be moved is linked, and the one left over is deleted at the end",
        "copy._TreeCopier._link: 1 -> 2 in 1",
    ),
    **_all(
        "same",
        "the size of a step",
        "data: 8 -> 9 in 8 << 20",
        "data: 20 -> 21 in 20",
        "data.DataCopier._copy_some: 1 -> 2 in 1 << 20), position)",
        "data.DataCopier._copy_some: 20 -> 21 in 20), position)",
    ),
    **_all(
        "same",
        "another way to the same bytes, only slower",
        "data.DataCopier.__init__: True -> False in True",
        "data.DataCopier._copy_some: if self._can_range: -> if not self._can_range:",
        "data.DataCopier._copy_some: False -> True in False",
        "data.DataCopier._copy_some: if done: -> if not done:",
    ),
    **_all(
        "same",
        "one attempt more",
        "usage: 10 -> 11 in 10",
    ),
    **_all(
        "same",
        "a wait of a few milliseconds: nobody has to ask or to sleep in it",
        "stamp.write_stamp: checkpoint() -> None",
        "stamp.write_stamp: time.sleep(_TICK_SECONDS) -> None",
    ),
    **_all(
        "same",
        "a number has fewer digits than either",
        "stamp.read_stamp: 64 -> 65 in 64)",
    ),
    **_all(
        "unseen",
        "what removal of a view frees is left to the backend: some have files for it",
        "native.NativeSnapshotter.usage: 0 -> 1 in 0, size=0, delta=0)",
        "native.NativeSnapshotter.usage: 0 -> 1 in 0, delta=0)",
        "native.NativeSnapshotter.usage: 0 -> 1 in 0)",
    ),
    **_all(
        "unseen",
        "needs a host that cannot map ids",
        "native.NativeSnapshotter.prepare: self._check_mapping(key, mapping) -> None",
        "native.NativeSnapshotter.view: self._check_mapping(key, mapping) -> None",
    ),
    **_all(
        "unseen",
        "what a copy reports to its caller is no part of the contract",
        "copy._TreeCopier.__init__: 0 -> 1 in 0",
        "copy._TreeCopier._enter: 1 -> 2 in 1",
        "data.DataCopier.__init__: 0 -> 1 in 0",
        "data.DataCopier.copy: 1 -> 2 in 1",
    ),
    **_all(
        "unseen",
        "needs a directory that cannot be opened when its parent was",
        "copy._TreeCopier.__init__: self.close() -> None",
    ),
    **_all(
        "unseen",
        "needs a link from outside of the tree, which no layer makes",
        "copy._TreeCopier.run: os.unlink(b'%d' % inode, dir_fd=self._spare) -> None",
    ),
    **_all(
        "unseen",
        "needs a source that becomes shorter while it is copied",
        "data.DataCopier._copy_range: False -> True in False",
    ),
    **_all(
        "unseen",
        "needs a filesystem without copy_file_range(2)",
        "data.DataCopier._copy_some: if error.errno not in _UNSUPPORTED: -> if not "
        "error.errno not in _UNSUPPORTED:",
        "data.DataCopier._copy_some: error.errno not in _UNSUPPORTED -> error.errno in "
        "_UNSUPPORTED",
        "data.DataCopier._copy_some: 0 -> 1 in 0",
        "data.DataCopier._copy_some: while written < len(block): -> while not written < "
        "len(block):",
        "data.DataCopier._copy_some: written < len(block) -> written >= len(block)",
    ),
    **_all(
        "unseen",
        "needs a file whose holes are less than a five-hundredth of it",
        "data._data: 512 -> 513 in 512 >= size:",
    ),
    **_all(
        "unseen",
        "needs a filesystem without SEEK_DATA",
        "data._data: if error.errno != errno.EINVAL: -> if not error.errno != errno.EINVAL:",
        "data._data: error.errno != errno.EINVAL -> error.errno == errno.EINVAL",
    ),
    **_all(
        "unseen",
        "needs a default ACL of the host above the state root",
        "attributes._copy_xattrs: if not stat.S_ISLNK(status.st_mode): -> if not not "
        "stat.S_ISLNK(status.st_mode):",
        "attributes._copy_xattrs: if name not in names and "
        "name.startswith('system.posix_acl_'): -> if not (name not in names and "
        "name.startswith('system.posix_acl_')):",
        "attributes._copy_xattrs: name not in names and name.startswith('system.posix_acl_') "
        "-> name not in names or name.startswith('system.posix_acl_')",
        "attributes._copy_xattrs: name not in names -> name in names",
        "attributes._copy_xattrs: os.removexattr(target, name) -> None",
    ),
    **_all(
        "unseen",
        "needs a filesystem without xattrs",
        "attributes._list: if error.errno in (errno.EOPNOTSUPP, errno.EPERM): -> if not "
        "error.errno in (errno.EOPNOTSUPP, errno.EPERM):",
        "attributes._list: error.errno in (errno.EOPNOTSUPP, errno.EPERM) -> error.errno not "
        "in (errno.EOPNOTSUPP, errno.EPERM)",
    ),
    **_all(
        "unseen",
        "needs an xattr of a symlink, which a layer cannot have",
        "attributes._get: False -> True in False)",
        "attributes._set: False -> True in False)",
    ),
}
