"""Progress: plain lines with a clock of ours, bars on a display of ours, nothing when quiet."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from snapcore.cli.bars import Bars
from snapcore.cli.progress import Lines, reporter
from snapcore.oci import Descriptor, Digest
from snapcore.oci.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from snapcore.unpack.events import (
    ArchiveRead,
    Event,
    FetchDone,
    FetchProgress,
    FetchStarted,
    ImageUnpacked,
    LayerDone,
    LayerPlanned,
    Resolved,
    UnpackProgress,
    UnpackStarted,
)

LAYER = Descriptor(f"{OCI_LAYER}+gzip", Digest("sha256", "ab" * 32), 2 << 20)
CONFIG = Descriptor(OCI_CONFIG, Digest("sha256", "cd" * 32), 100)
MANIFEST = Descriptor(OCI_MANIFEST, Digest("sha256", "ef" * 32), 100)
CHAIN = "sha256:" + "12" * 32
PULL: tuple[Event, ...] = (
    Resolved("h.example/a:1\x1b[0m", MANIFEST),
    FetchStarted(MANIFEST),
    FetchDone(MANIFEST, cached=False),
    FetchDone(CONFIG, cached=True),
    FetchStarted(LAYER),
    FetchProgress(LAYER, 1 << 20),
    FetchDone(LAYER, cached=False),
    UnpackStarted(LAYER, "overlay", CHAIN),
    UnpackProgress(LAYER, "overlay", 1 << 20),
    LayerDone(LAYER, "overlay", CHAIN, "applied"),
    ImageUnpacked(MANIFEST, "overlay", CHAIN),
)


class Clock:
    """Two seconds pass between looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 2
        return self.now


def lines(*events: Event) -> list[str]:
    written: list[str] = []
    listener = Lines(written.append, Clock())
    for event in events:
        listener(event)
    return written


def test_lines_of_a_pull() -> None:
    short = "ab" * 6
    assert lines(*PULL) == [
        f"h.example/a:1\\x1b[0m: {MANIFEST.digest}",
        f"{short}: downloading 2.0MiB",
        f"{short}: downloaded 2.0MiB in 2.0s (1.0MiB/s)",
        f"{short}: unpacking for overlay",
        f"{short}: unpacked for overlay in 2.0s (1.0MiB/s)",
        f"image unpacked for overlay: {CHAIN}",
    ]


def test_lines_of_what_was_here() -> None:
    short = "ab" * 6
    assert lines(
        FetchDone(LAYER, cached=True),
        LayerDone(LAYER, "native", CHAIN, "exists"),
        LayerDone(LAYER, "lazy", CHAIN, "remote"),
        ImageUnpacked(MANIFEST, "native", ""),
    ) == [
        f"{short}: here already",
        f"{short}: unpacked before for native",
        f"{short}: supplied by the snapshotter for lazy",
        "image unpacked for native: no layers",
    ]


PLAN: tuple[Event, ...] = (
    LayerPlanned(LAYER, "lazy", True, "estargz"),
    LayerPlanned(LAYER, "lazy", False, "no index\x1b[0m"),
)
SHOWN_PLAN = [
    "ab" * 6 + ": lazy: lazy (estargz)",
    "ab" * 6 + ": lazy: unpacked, not lazy: no index\\x1b[0m",
]


def test_the_plan_of_each_layer() -> None:
    assert lines(*PLAN) == SHOWN_PLAN
    screen = io.StringIO()
    display = Progress(console=Console(file=screen, width=200))
    for event in PLAN:
        Bars(display)(event)
    assert screen.getvalue().splitlines()[:2] == SHOWN_PLAN


def test_bars_show_download_then_unpacking() -> None:
    screen = io.StringIO()
    display = Progress(
        TextColumn("{task.description} {task.fields[phase]} {task.completed}/{task.total}"),
        console=Console(file=screen, force_terminal=True, width=200, color_system=None),
        auto_refresh=False,
    )
    bars = Bars(display)
    seen = []
    for event in PULL:
        bars(event)
        seen += [(t.description, t.fields["phase"], t.completed) for t in display.tasks]
    assert list(dict.fromkeys(seen)) == [
        ("ab" * 6, "downloading", 0),
        ("ab" * 6, "downloading", 1 << 20),
        ("ab" * 6, "downloaded", 2 << 20),
        ("ab" * 6, "unpacking overlay", 0),
        ("ab" * 6, "unpacking overlay", 1 << 20),
        ("ab" * 6, "unpacked", 2 << 20),
    ]
    assert "\x1b[0m:" not in screen.getvalue()


@pytest.mark.parametrize(("style", "quiet"), [("none", False), ("auto", True), ("plain", True)])
def test_nothing_when_nothing_was_asked(
    style: str, quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with reporter(style, quiet) as events:  # type: ignore[arg-type]  # a parametrised literal
        for event in PULL:
            events(event)
    assert capsys.readouterr() == ("", "")


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter("auto", quiet=False) as events:
        for event in PULL:
            events(event)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 6


def test_bars_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with reporter("auto", quiet=False) as events:
        assert isinstance(events, Bars)
        for event in PULL:
            events(event)
    out, err = capsys.readouterr()
    assert out == ""
    assert "ab" * 6 in err
    assert "2.0/2.0" in err


def test_each_snapshotter_of_a_layer_has_a_row() -> None:
    display = Progress(TextColumn("{task.description}"), console=Console(file=io.StringIO()))
    bars = Bars(display)
    for event in (
        FetchStarted(LAYER),
        FetchDone(LAYER, cached=False),
        UnpackStarted(LAYER, "overlay", CHAIN),
        UnpackStarted(LAYER, "native", CHAIN),
        UnpackProgress(LAYER, "overlay", 1 << 20),
        UnpackProgress(LAYER, "native", 1 << 19),
        LayerDone(LAYER, "overlay", CHAIN, "applied"),
    ):
        bars(event)
    assert [(task.fields["phase"], task.completed) for task in display.tasks] == [
        ("unpacked", 2 << 20),
        ("unpacking native", 1 << 19),
    ]


def test_rows_that_are_done_make_room() -> None:
    console = Console(file=io.StringIO(), width=80, height=4)
    display = Progress(TextColumn("{task.description}"), console=console)
    bars = Bars(display)
    layers = [Descriptor(OCI_LAYER, Digest("sha256", f"{n:02}" * 32), 1) for n in range(6)]
    bars(FetchStarted(layers[0]))
    for layer in layers[1:]:
        bars(FetchDone(layer, cached=True))
    shown = [task.description for task in display.tasks if task.visible]
    assert shown == [f"{n:02}" * 6 for n in (0, 3, 4, 5)]
    bars(UnpackStarted(layers[1], "native", CHAIN))
    assert display.tasks[1].visible


def test_bars_show_how_much_of_an_archive_is_read() -> None:
    display = Progress(TextColumn("{task.description}"), console=Console(file=io.StringIO()))
    bars = Bars(display)
    bars(ArchiveRead("a.tar", 10, 100))
    bars(ArchiveRead("a.tar", 60, 100))
    bars(ArchiveRead("standard input", 60, 0))
    first, second = display.tasks
    assert (first.description, first.completed, first.total) == ("a.tar", 60, 100)
    assert (second.description, second.total) == ("standard input", None)
