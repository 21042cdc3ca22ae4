"""What entries say when they take a privilege that the process lacks."""

from __future__ import annotations

import errno
import os

import pytest
from support.kernel import in_child
from support.layers import entry

from snapcore.archive import EntryType
from snapcore.archive.privilege import entry_error
from snapcore.errors import PermissionDenied, RefusedInput, SnapcoreError

_CAPABILITY = b"security.capability"


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (errno.EPERM, EntryType.BLOCK, "a device needs root outside of user namespaces"),
        (errno.EPERM, EntryType.FILE, "Operation not permitted"),
        (errno.EACCES, EntryType.CHARACTER, "Permission denied"),
    ],
)
def test_root_lacks_no_owners_and_no_capabilities(number: int, kind: EntryType, says: str) -> None:
    made, _ = entry("dir/name", kind, ids=(7, 8), xattrs={_CAPABILITY: b""})
    found = entry_error(OSError(number, os.strerror(number)), made)
    assert isinstance(found, PermissionDenied)
    assert str(found).startswith(f"layer entry b'dir/name': {says}")


def test_what_is_invalid_for_another_reason_is_the_layers_fault() -> None:
    made, _ = entry("name", EntryType.FILE, ids=(os.geteuid(), os.getegid()))
    found: SnapcoreError = entry_error(OSError(errno.EINVAL, "Invalid argument"), made)
    assert isinstance(found, RefusedInput)


_WITHOUT = """
import errno
from support.layers import entry
from snapcore.archive import EntryType
from snapcore.archive.privilege import entry_error
if Cap.CHOWN in effective_capabilities():
    keep_capabilities(())
own = (os.geteuid(), os.getegid())
for ids in ((7, 8), own):
    made, _ = entry("name", EntryType.FILE, ids=ids, xattrs={b"security.capability": b""})
    print(entry_error(OSError(errno.EPERM, "Operation not permitted"), made))
"""


def test_without_capabilities_it_says_which_and_what_to_do() -> None:
    owner, capability = in_child(_WITHOUT).stdout.splitlines()
    assert owner.startswith("layer entry b'name': its owner 7:8 needs root; run as root, or as")
    assert capability.startswith("layer entry b'name': its file capabilities need root; run as")
    for each in (owner, capability):
        assert each.endswith("or set unpack.unprivileged to 'map', which leaves it out")
