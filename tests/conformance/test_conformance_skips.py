"""What our backends leave out of the suite, and why: all of it, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from snapcore.conformance import ALL_CHECKS, Subject, started
from snapcore.linux import has_owners_up_to
from snapcore.snapshots import open_snapshotter

_NO_REBASE: Final = "native does not claim rebase"
_NO_REMAP: Final = "fuse does not claim remap_ids"
EXPECTED: Final = {
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
