"""Pulls on a real terminal: what is seen while they run, and how it is left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from support.faults import stall
from support.layout import File, Layer, LayoutBuilder, tar_of
from support.roots import Root, Served, served
from support.terminal import Screen, Terminal, on_terminal

from snapcore.cli.progress import short

FILES: Final = 3000
SIZE: Final = 400_000


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> tuple[LayoutBuilder, tuple[Layer, ...]]:
    builder = LayoutBuilder(tmp_path_factory.mktemp("seen") / "layout")
    many = [File(f"{n:04}", b"%d" % n) for n in range(FILES)]
    layers = (
        builder.add_layer(tar_of(File("etc/motd", b"hello\n")), "none"),
        builder.add_layer(tar_of(*many, File("big", b"x" * SIZE)), "none"),
    )
    builder.add_image("latest", layers)
    return builder, layers


@pytest.fixture
def image(layout: tuple[LayoutBuilder, tuple[Layer, ...]]) -> Iterator[Served]:
    with served(*layout) as image:
        yield image


@pytest.fixture
def root(tmp_path: Path, image: Served) -> Root:
    return Root(tmp_path / "root", "native", image)


def rows_of(frame: str, layer: Layer) -> list[str]:
    name = short(layer.descriptor.digest)
    return [row.removeprefix(name).strip() for row in frame.splitlines() if row.startswith(name)]


def phases(terminal: Terminal, layer: Layer) -> list[str]:
    """Return what was ever seen to happen to a layer, in order."""
    seen = [row for frame in terminal.frames for row in rows_of(frame, layer)]
    return list(dict.fromkeys(re.split(r" {2,}|[━╸╺]", row)[0] for row in seen))


def test_a_layer_is_seen_to_come_and_to_be_unpacked(root: Root) -> None:
    big = root.image.layers[-1]
    root.image.registry.spoil(f"GET /v2/slow{root.image.last}", stall(SIZE))
    with on_terminal(*root.pull_arguments()) as terminal:
        terminal.until(lambda frame: "downloading" in "".join(rows_of(frame, big)))
        terminal.until(lambda frame: "0.4/" in "".join(rows_of(frame, big)))
        root.image.registry.server.drop_all()
        code, out = terminal.end()
    assert code == 0, terminal.frames[-1]
    assert str(big.diff_id) not in out
    assert root.image.reference in out
    assert terminal.screen.rows[0].startswith(root.image.reference)
    seen = phases(terminal, big)
    wanted = ["downloading", "downloaded", "unpacking native", "unpacked"]
    assert [phase for phase in seen if phase in wanted] == [p for p in wanted if p in seen]
    assert {"downloading", "unpacked"} <= set(seen)
    (row,) = rows_of(terminal.frames[-1], big)
    assert re.search(r"(\d\.\d)/\1 MiB +[\d.]+.?i?B/s *$", row), row
    assert not terminal.screen.cursor_hidden


@pytest.mark.needs_root
def test_each_snapshotter_has_a_row(root: Root) -> None:
    with on_terminal("--snapshotter", "overlay", *root.pull_arguments()) as terminal:
        code, _ = terminal.end()
    assert code == 0, terminal.frames[-1]
    for layer in root.image.layers:
        assert len(rows_of(terminal.frames[-1], layer)) == 2
        assert {"unpacking native", "unpacking overlay", "unpacked"} & set(phases(terminal, layer))


@pytest.mark.parametrize("width", [30, 60, 80])
def test_a_narrow_terminal_has_one_line_for_each_layer(root: Root, width: int) -> None:
    with on_terminal(*root.pull_arguments(), width=width) as terminal:
        code, _ = terminal.end()
    assert code == 0, terminal.frames[-1]
    rows = [rows_of(terminal.frames[-1], layer) for layer in root.image.layers]
    assert terminal.frames[-1].count("unpacked") == 2, terminal.frames[-1]
    for (row,) in rows:
        assert row.startswith("unpacked"), terminal.frames[-1]
        assert ("iB" in row, "━" in row) == (width >= 60, width >= 76)


def test_a_low_terminal_shows_what_is_under_way(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path / "layout")
    layers = [builder.add_layer(tar_of(File(f"{n}"))) for n in range(12)]
    builder.add_image("latest", layers)
    with served(builder, layers) as image:
        root = Root(tmp_path / "root", "native", image)
        with on_terminal(*root.pull_arguments(), height=8) as terminal:
            code, _ = terminal.end()
    assert code == 0, terminal.frames[-1]
    assert "unpacked" in phases(terminal, layers[-1])


def test_ctrl_c_leaves_terminal_and_root_as_they_were(root: Root) -> None:
    root.image.registry.spoil(f"GET /v2/slow{root.image.last}", stall(SIZE))
    big = root.image.layers[-1]
    with on_terminal(*root.pull_arguments()) as terminal:
        terminal.until(lambda frame: "0.4/" in "".join(rows_of(frame, big)))
        hidden = terminal.screen.cursor_hidden
        terminal.press(b"\x03")
        code, out = terminal.end()
        assert terminal.current_modes() == terminal.modes
    assert (code, out) == (130, "")
    assert (hidden, terminal.screen.cursor_hidden) == (True, False)
    said = [row for row in terminal.screen.rows if row.startswith("snapcore: ")]
    assert said[-1] == "snapcore: interrupted by SIGINT; cleaned up"
    assert terminal.screen.rows[-1] == ""
    left = root.unfinished()
    assert (left["mount points"], left["owners"]) == ((), ())
    # What has come stays, for the next pull to resume.
    assert len(left["ingests"]) == 1


def test_a_quiet_pull_writes_nothing_to_the_terminal(root: Root) -> None:
    with on_terminal(*root.pull_arguments(), "--quiet") as terminal:
        code, out = terminal.end()
    assert (code, terminal.frames) == (0, [])
    assert out.split() == [root.image.chain_id]


@pytest.mark.parametrize("piece", [1, 2, 100])
def test_a_screen_shows_what_was_written_last(piece: int) -> None:
    screen = Screen(width=5)
    written = "\x1b[?25lone\r\ntwo\x1b[1A\r\x1b[2K\x1b[31m12345━7\x1b[0m".encode()
    for start in range(0, len(written), piece):
        screen.feed(written[start : start + piece])
    assert (screen.rows, screen.cursor_hidden) == (["12345", "━7o"], True)
