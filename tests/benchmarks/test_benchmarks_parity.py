"""Who agrees with the model: how trees are compared, and the whole comparison on a few images."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import pytest
from support.features import Feature
from support.layers import Native
from support.parity import ParityImage, numbers_of, parity_image

from benchmarks.parity.outcomes import Outcome, SideFacts, look, reason, refusals, table
from benchmarks.parity.peers import PEERS

REPOSITORY: Final = Path(__file__).resolve().parents[2]


class Document(msgspec.Struct):
    """What `--json` writes."""

    sides: list[SideFacts]
    outcomes: list[Outcome]


def unpacked(image: ParityImage, place: Path) -> Path:
    native = Native(str(place), whiteouts_first=True)
    for layer in image.layers:
        native.apply(layer)
    return place / "native"


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def directories(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())


CHANGES: Final[dict[str, Callable[[Path], None]]] = {
    "missing names": lambda root: files(root)[0].unlink(),
    "names too many": lambda root: os.mkfifo(root / "pipe"),
    "modes": lambda root: files(root)[0].chmod(0o123),
    "owners": lambda root: os.chown(files(root)[0], 77, 77),
    "times": lambda root: os.utime(files(root)[0], (1, 1)),
    "directories' times": lambda root: os.utime(directories(root)[0], (1, 1)),
    "xattrs": lambda root: os.setxattr(files(root)[0], "user.more", b"1"),
    "content": lambda root: change(files(root)[0]),
}


def change(file: Path) -> None:
    status = file.stat()
    file.write_bytes(b"another")
    os.utime(file, ns=(status.st_mtime_ns, status.st_mtime_ns))


@pytest.mark.needs_root
@pytest.mark.parametrize("way", CHANGES)
def test_each_way_to_differ_has_its_name(way: str, tmp_path: Path) -> None:
    image = parity_image(0)
    root = unpacked(image, tmp_path)
    assert look("side", image, str(root)).verdict == "agrees"
    parents = {path: path.stat().st_mtime_ns for path in (root, files(root)[0].parent)}
    CHANGES[way](root)
    for path, time in parents.items():
        if way != "directories' times":
            os.utime(path, ns=(time, time))
    found = look("side", image, str(root))
    assert (found.verdict, found.ways) == ("differs", (way,))


@pytest.mark.needs_root
def test_the_root_counts_where_an_entry_says_what_it_is(tmp_path: Path) -> None:
    for number, verdict in ((0, "agrees"), (numbers_of(Feature.ROOT, 1)[0], "differs")):
        (place := tmp_path / str(number)).mkdir()
        root = unpacked(parity_image(number), place)
        os.utime(root, (5, 5))
        assert look("side", parity_image(number), str(root)).verdict == verdict


def test_the_table_counts_by_class() -> None:
    outcomes = [
        Outcome(0, "plain", "a", "agrees"),
        Outcome(2, "plain", "a", "agrees"),
        Outcome(1, "many", "a", "refuses", (), "too much"),
        Outcome(0, "plain", "b", "differs", ("times",)),
        Outcome(2, "plain", "b", "differs", ("modes", "times")),
        Outcome(1, "many", "b", "agrees"),
    ]
    assert table(outcomes, ["a", "b"]).splitlines()[2:] == [
        "| plain | 2 | all agree | 0 agree; 2 differ (times 2, modes 1) |",
        "| many | 1 | 0 agree; 1 refused | all agree |",
        "| **all** | 3 | 2 agree; 1 refused | 1 agree; 2 differ (times 2, modes 1) |",
    ]
    assert refusals(outcomes, ["a", "b"]) == ("- a refused 1 of 'many', such as image 1: too much")


def test_a_reason_is_the_same_in_every_run() -> None:
    said = f"ctr --x failed: first\nlayer sha256:{'0' * 64}: /tmp/place/a is bad"
    assert reason(said, "/tmp/place") == "layer …: …/a is bad"


@pytest.mark.needs_root
@pytest.mark.long
@pytest.mark.timeout(300)
def test_snapcore_agrees_with_the_model_beside_the_others(tmp_path: Path) -> None:
    lacking = [why for peer in PEERS if (why := peer.lacks())]
    if lacking:
        pytest.skip("; ".join(lacking))
    kept = tmp_path / "outcomes.json"
    arguments = ("--images", "5", "--work", str(tmp_path), "--json", str(kept))
    command = (sys.executable, "-m", "benchmarks.parity", *arguments)
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = msgspec.json.decode(kept.read_bytes(), type=Document)
    ours = {outcome.side for outcome in found.outcomes if outcome.side.startswith("snapcore-")}
    assert ours >= {"snapcore-native", "snapcore-overlay"}
    assert {o.verdict for o in found.outcomes if o.side in ours} == {"agrees"}
    assert {side.name for side in found.sides} == ours | {peer.name for peer in PEERS}
    # The plain image is understood by all but containerd's native, which copies no times.
    plain = {o.side: o.verdict for o in found.outcomes if o.number == 0}
    assert plain["umoci"] == plain["containerd overlayfs"] == "agrees"
    for side in plain:
        assert len([o for o in found.outcomes if o.side == side]) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["outcomes.json"]
