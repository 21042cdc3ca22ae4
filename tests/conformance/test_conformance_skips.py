"""What our backends leave out of the suite, and why: all of it, and nothing else."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from snapcore.conformance import ALL_CHECKS, MemoryState, Outcome, Subject, open_memory, started
from snapcore.conformance.checks import broken, crashes
from snapcore.conformance.run import run_check
from snapcore.errors import Unimplemented
from snapcore.linux import has_owners_up_to
from snapcore.snapshots import Info, Snapshotter, hookimpl, open_snapshotter

_NO_REBASE: Final = "native does not claim rebase"
_NO_REMAP: Final = "fuse does not claim remap_ids"
_NO_REMAP_EITHER: Final = "erofs does not claim remap_ids"
EXPECTED: Final = {
    "erofs": {
        "malformed_maps": _NO_REMAP_EITHER,
        "mapped_actives_are_no_layers": _NO_REMAP_EITHER,
        "mapped_ids": _NO_REMAP_EITHER,
        "maps_do_not_change": _NO_REMAP_EITHER,
        "rename_directory": "erofs does not claim rename_dir",
        "remote_supplies_a_layer": "erofs does not claim remote",
    },
    "fuse": {
        "malformed_maps": _NO_REMAP,
        "mapped_actives_are_no_layers": _NO_REMAP,
        "mapped_ids": _NO_REMAP,
        "maps_do_not_change": _NO_REMAP,
        "rename_directory": "fuse does not claim rename_dir",
        "remote_supplies_a_layer": "no layer is given that fuse would make available by itself",
    },
    "native": {
        "500_layers": _NO_REBASE,
        "rebase_table": _NO_REBASE,
        "rebased_layer_shows_its_parent": _NO_REBASE,
        "rebase_onto_what_goes": _NO_REBASE,
        "remote_supplies_a_layer": "native does not claim remote",
    },
    "overlay": {
        "rename_directory": "overlay does not claim rename_dir",
        "remote_supplies_a_layer": "overlay does not claim remote",
    },
}
"""By backend and check, for real root; without, more is left out, and each check says so."""


@pytest.mark.needs_root
@pytest.mark.skipif(not has_owners_up_to(), reason="inside a user namespace more is left out")
@pytest.mark.parametrize("backend", EXPECTED)
def test_exactly_what_is_expected_is_left_out(backend: str, tmp_path: Path, census: None) -> None:
    subject = Subject(lambda root: open_snapshotter(backend, root))
    with started(subject, str(tmp_path)) as harness:
        skipped = {c.name: reason for c in ALL_CHECKS if (reason := c.missing(harness))}
    assert skipped == EXPECTED[backend]


@pytest.mark.parametrize("backend", EXPECTED)
def test_nothing_is_found_to_be_left_out_only_when_it_runs(
    backend: str, tmp_path: Path, census: None
) -> None:
    subject = Subject(lambda root: open_snapshotter(backend, root))
    found = {
        check.name: run_check(check, subject, str(tmp_path)).outcome
        for check in (broken.CHECKS[0], crashes.CHECKS[0])
    }
    assert set(found.values()) == {Outcome.PASSED}, found


class _Irreparable:
    """A backend without broken snapshots, as it were."""

    @hookimpl(wrapper=True)
    def mark_broken(self, name: str) -> Generator[None, Info, Info]:
        yield
        raise Unimplemented(f"snapshot {name!r} cannot be rebuilt")


def test_checks_of_broken_snapshots_are_left_out_where_there_are_none(tmp_path: Path) -> None:
    def open_root(root: str) -> Snapshotter:
        Path(root).mkdir()
        return open_memory(MemoryState(), root, wrappers=(lambda *_: _Irreparable(),))

    subject = Subject(open_root, mountable=False, installed=False)
    results = [run_check(check, subject, str(tmp_path)) for check in broken.CHECKS[:3]]
    assert {(result.outcome, result.reason) for result in results} == {
        (Outcome.SKIPPED, "memory has no broken snapshots")
    }
