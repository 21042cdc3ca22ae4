"""containerd's own snapshotters, graded by our suite over containerd's own socket."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from support.cli import spawn
from support.ctr import Daemons, containerd_alone
from support.images import require_tools

from snapcore.conformance import ALL_CHECKS, parse_xfails

pytestmark = [pytest.mark.containerd, pytest.mark.needs_root, pytest.mark.timeout(600)]

_EXPECTED: Final = Path(__file__).resolve().parent / "xfails"
_CLAIMS: Final = {
    "overlayfs": ("hardlinks", "readonly_view"),
    "native": ("hardlinks", "readonly_view", "rename_dir"),
}
"""What they can do by their documentation; they do not say so themselves."""
_NAMESPACE: Final = "snapcore-conformance"


@pytest.fixture(scope="module")
def containerd() -> Iterator[Daemons]:
    require_tools("containerd", "ctr")
    pytest.importorskip("grpc", reason="not installed: snapcore[service]")
    # A short path: sockets lie in it.
    with (
        tempfile.TemporaryDirectory(prefix="ctr-") as place,
        containerd_alone(Path(place)) as containerd,
    ):
        yield containerd


@pytest.mark.parametrize("snapshotter", _CLAIMS)
def test_what_the_originals_do_otherwise_is_known(
    snapshotter: str,
    containerd: Daemons,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    listed, report = _EXPECTED / snapshotter, tmp_path / "report.json"
    done = spawn(
        *("conformance", f"unix://{containerd.socket}", "--snapshotter", snapshotter),
        *(word for claim in _CLAIMS[snapshotter] for word in ("--capability", claim)),
        *("--root", str(tmp_path / "work"), "--xfails", str(listed), "--report", str(report)),
        patience=500,
    )
    (graded,) = json.loads(report.read_text())["snapshotters"]
    outcomes = {result["check"]: result["outcome"] for result in graded["results"]}
    # Nothing else fails, and no line is stale.
    assert done.code == 0, done.out
    expected = parse_xfails(listed.read_text(), outcomes.keys())
    always = {name for name in expected if not name.endswith("?")}
    failed = {name for name, outcome in outcomes.items() if outcome == "xfailed"}
    assert always <= failed <= {name.removesuffix("?") for name in expected}
    assert outcomes.keys() == {check.name for check in ALL_CHECKS}
    passed = sum(outcome == "passed" for outcome in outcomes.values())
    record_property(
        "shown",
        f"{snapshotter:9} {passed} passed, {len(failed)} differ: {', '.join(sorted(failed))}",
    )


def test_nothing_is_left_of_it(containerd: Daemons) -> None:
    assert _NAMESPACE in containerd.ctr("namespaces", "ls", "--quiet").split()
    inside = ("--namespace", _NAMESPACE)
    assert containerd.ctr(*inside, "leases", "ls", "--quiet") == ""
    for snapshotter in _CLAIMS:
        rows = containerd.ctr(*inside, "snapshots", "--snapshotter", snapshotter, "ls")
        assert len(rows.splitlines()) == 1
        plugin = f"root/io.containerd.snapshotter.v1.{snapshotter}/snapshots"
        assert list((containerd.place / plugin).iterdir()) == []
