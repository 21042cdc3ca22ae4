"""The benchmark's rounds: a filesystem for each, measured from outside, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import pytest
from support.layout import File, LayoutBuilder, tar_of

from benchmarks.filesystem import fresh_ext4, needed_gib, written_bytes
from benchmarks.image import Image, LayerFacts
from benchmarks.measure import measure
from benchmarks.programs import Failed, run
from benchmarks.report import Series
from benchmarks.sides import SIDES, Session, Side
from benchmarks.unpack import main
from benchmarks.watch import Watch
from snapcore.mount import mounts_below

REPOSITORY: Final = Path(__file__).resolve().parents[2]
NOTHING: Final = Image("none", "/nonexistent", "", ())
MIB: Final = 1 << 20


@dataclass(slots=True)
class _Shell:
    """Runs a script in the fresh filesystem."""

    script: str
    place: Path
    watch: Watch = field(default_factory=Watch)

    def command(self) -> tuple[str, ...]:
        return ("sh", "-c", f"cd {self.place}; {self.script}")

    @contextmanager
    def unpacked(self, target: Path) -> Iterator[Path]:
        del target
        yield self.place


def side(script: str) -> Side:
    @contextmanager
    def session(place: Path, image: Image) -> Iterator[Session]:
        del image
        yield _Shell(script, place)

    return Side("shell", session, lambda: "1", lambda: "nothing")


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_unmounted(work: Path) -> bool:
    """Tell whether no filesystem below `work` is mounted, in whatever namespace."""
    devices = run("losetup", "--list", "--noheadings", "--output", "BACK-FILE")
    return str(work) not in devices and not mounts_below(str(work))


def is_clear(work: Path) -> bool:
    """Tell whether no mount, no file and no loop device of a filesystem below `work` is left."""
    return is_unmounted(work) and not list(work.glob("*.ext4"))


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    builder = LayoutBuilder(tmp_path / "layout")
    lower = builder.add_layer(tar_of(File("etc/"), File("etc/a", b"a"), File("etc/b", b"b")))
    upper = builder.add_layer(tar_of(File("etc/"), File("etc/.wh.b"), File("etc/c", b"c")))
    builder.add_image("latest", [lower, upper])
    return builder.directory


@pytest.fixture(autouse=True)
def _interrupts_arrive() -> Iterator[None]:
    """Undo that SIGINT is ignored, as it is for a shell's jobs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.needs_root
def test_what_a_side_uses_is_measured(tmp_path: Path, census: None) -> None:
    script = "head -c 5000000 /dev/zero >file; ln -s file link"
    seen = measure(side(script), NOTHING, tmp_path, look=True)
    assert 5_000_000 / MIB <= seen.written_mib < 50
    assert 0 < seen.seconds < 30
    assert seen.tree is not None
    # With lost+found and the mount point for those who need one.
    assert (seen.tree.entries, seen.tree.size) == (4, 5_000_000)
    assert eventually(lambda: is_clear(tmp_path))


@pytest.mark.needs_root
def test_processor_time_of_children_counts(tmp_path: Path) -> None:
    burn = "sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done'"
    idle = measure(side("true"), NOTHING, tmp_path, look=False)
    busy = measure(side(f"{burn}; true"), NOTHING, tmp_path, look=False)
    assert busy.cpu_seconds > idle.cpu_seconds + 0.02


@pytest.mark.needs_root
def test_a_side_that_fails_says_what_it_said(tmp_path: Path, census: None) -> None:
    with pytest.raises(Failed, match="no such luck"):
        measure(side("echo no such luck >&2; exit 3"), NOTHING, tmp_path, look=False)
    assert eventually(lambda: is_clear(tmp_path))


@pytest.mark.needs_root
def test_an_interrupt_ends_the_side_and_clears_away(tmp_path: Path, census: None) -> None:
    note = tmp_path / "pids"
    script = (
        f"trap '' TERM HUP; sleep 600 & echo $$ $! >{note}.new; mv {note}.new {note}; exec true"
    )

    def interrupt() -> None:
        if eventually(note.exists):
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        measure(side(script), NOTHING, tmp_path, look=False)
    thread.join()
    pids = note.read_text().split()
    assert eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
    assert eventually(lambda: is_clear(tmp_path))


@pytest.mark.needs_root
def test_an_interrupt_while_clearing_away_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*command: str) -> str:
        if command[0] == "umount":
            os.kill(os.getpid(), signal.SIGINT)
        return run(*command)

    monkeypatch.setattr("benchmarks.filesystem.run", interrupted)
    with pytest.raises(KeyboardInterrupt), fresh_ext4(tmp_path, 1):
        pass
    assert eventually(lambda: is_clear(tmp_path))


@pytest.mark.needs_root
def test_each_filesystem_is_new(tmp_path: Path) -> None:
    for _ in range(2):
        with fresh_ext4(tmp_path, 1) as place:
            assert os.listdir(place) == ["lost+found"]
            before = written_bytes(place)
            (place / "file").write_bytes(os.urandom(3 * MIB))
            run("sync", "--file-system", str(place))
            assert 3 * MIB <= written_bytes(place) - before < 20 * MIB


@pytest.mark.parametrize(("layers_share", "expected"), [(True, 8), (False, 20)])
def test_whole_trees_for_each_layer_need_more_room(layers_share: bool, expected: int) -> None:
    layer = LayerFacts("", "", "", compressed=300 << 20, size=1 << 30, entries=1000)
    image = Image("x", "", "", (layer, layer, layer, layer))
    assert needed_gib(image, layers_share=layers_share) == expected


@pytest.mark.needs_root
def test_sides_take_turns_and_everything_is_kept(
    layout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, results = tmp_path / "work", tmp_path / "results"
    places = ("--work", str(work), "--results", str(results))
    arguments = ("--layout", str(layout), "--only", "tar", "--rounds", "2", *places)
    assert main(arguments) == 0
    table, document = sorted(results.iterdir(), key=lambda path: path.suffix, reverse=True)
    assert table.read_text() == capsys.readouterr().out.removesuffix("\n")
    series = msgspec.json.decode(document.read_bytes(), type=Series)
    assert [run.name for run in series.runs] == ["tar", "tar"]
    # The root's own directory and its three names, a whiteout among them.
    tree = series.runs[0].tree
    assert tree is not None
    assert tree.entries == 5
    assert eventually(lambda: is_clear(work))


def ended_by(number: signal.Signals, layout: Path, top: Path) -> int:
    """Send a signal, twice if the first is heard, to a series; return its exit status."""
    command = (sys.executable, "-m", "benchmarks.unpack", "--layout", str(layout))
    places = ("--work", str(top / "work"), "--results", str(top / "results"))
    options = ("--only", "tar", "--rounds", "1000", *places)
    with subprocess.Popen(
        (*command, *options), stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as series:
        assert series.stderr is not None
        for line in series.stderr:
            if line.startswith(("round 2", "clearing")):
                series.send_signal(number)
    return series.returncode


@pytest.mark.long
@pytest.mark.needs_root
def test_ctrl_c_in_the_midst_of_a_series_leaves_nothing(layout: Path, tmp_path: Path) -> None:
    assert ended_by(signal.SIGINT, layout, tmp_path) == 128 + signal.SIGINT
    assert eventually(lambda: is_clear(tmp_path / "work"))
    assert len(list((tmp_path / "results").iterdir())) == 2


@pytest.mark.long
@pytest.mark.needs_root
def test_even_killed_a_series_leaves_no_mount(layout: Path, tmp_path: Path) -> None:
    assert ended_by(signal.SIGKILL, layout, tmp_path) == -signal.SIGKILL
    assert eventually(lambda: is_unmounted(tmp_path / "work"))


def test_a_missing_program_is_said_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.programs._PATH", "/nonexistent")
    lacking = {side.name: side.lacks() for side in SIDES}
    assert lacking["umoci"] == (
        "umoci not installed: `python3 scripts/setup.py --bench` as root installs it"
    )
    assert "containerd, ctr not installed" in lacking["containerd-native"]
    assert lacking["snapcore"] == ""
