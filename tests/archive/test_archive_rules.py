"""The rules of entries that do not come from a tar; what tars can hold, the tar's tests cover."""

from __future__ import annotations

import pytest

from snapcore.archive import Entry, EntryRules, EntryType, Limits
from snapcore.errors import RefusedInput

LIMITS = Limits(entries=3, size=1000, pax=100)


def rules() -> EntryRules:
    return EntryRules(LIMITS, lambda why: RefusedInput(f"here: {why}"))


def make(
    name: bytes,
    kind: EntryType = EntryType.FILE,
    *,
    link: bytes = b"",
    size: int = 0,
    device: tuple[int, int] = (1, 2),
) -> Entry:
    return rules().make(name, kind, 0o100644, 1, 2, 3, size, link, device, (), 7)


def test_an_entry_keeps_what_it_was_given_and_nothing_of_another_type() -> None:
    entry = make(b"./a//b", size=9, link=b"ignored")
    assert entry == Entry((b"a", b"b"), EntryType.FILE, 0o644, 1, 2, 3, 9, b"", (), 0, 0, (), 7)


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        (b"a\0b", EntryType.FILE, b""),
        (b"a", EntryType.SYMLINK, b"b\0c"),
        (b"a", EntryType.HARDLINK, b"b\0c"),
    ],
)
def test_names_and_links_hold_no_nul(name: bytes, kind: EntryType, link: bytes) -> None:
    with pytest.raises(RefusedInput, match="NUL"):
        make(name, kind, link=link)


@pytest.mark.parametrize("name", [b"", b"a=b", b"a\0"])
def test_an_xattr_has_a_name_that_pax_could_hold(name: bytes) -> None:
    with pytest.raises(RefusedInput, match="valid name"):
        rules().check_xattrs(((b"user.ok", b""), (name, b"x")))


@pytest.mark.parametrize(
    "xattrs",
    [((b"user.a", bytes(95)),), tuple((b"user.%d" % n, b"") for n in range(5000))],
    ids=["bytes", "number"],
)
def test_xattrs_have_a_budget(xattrs: tuple[tuple[bytes, bytes], ...]) -> None:
    with pytest.raises(RefusedInput, match="more than"):
        rules().check_xattrs(xattrs)


def test_entries_have_a_budget() -> None:
    made = rules()
    for number in range(3):
        made.make(b"%d" % number, EntryType.FIFO, 0, 0, 0, 0, 0, b"", (0, 0), (), 0)
    with pytest.raises(RefusedInput, match="more than 3 entries"):
        made.make(b"4", EntryType.FIFO, 0, 0, 0, 0, 0, b"", (0, 0), (), 0)
