"""Progress on a terminal: a row for each layer, drawn by rich."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

from snapcore.cli.progress import HOW, SENT, planned, short
from snapcore.cli.text import human_size, printable
from snapcore.oci import Descriptor, is_layer
from snapcore.unpack.events import (
    ArchiveRead,
    Event,
    FetchDone,
    FetchProgress,
    FetchStarted,
    LayerDone,
    LayerPlanned,
    Resolved,
    SendDone,
    SendProgress,
    SendStarted,
    UnpackProgress,
    UnpackStarted,
)

_WIDTH_WITH_AMOUNTS: Final = 60
_WIDTH_WITH_BARS: Final = 76


@contextmanager
def on_terminal() -> Iterator[Bars]:
    """Show bars on stderr for the duration of a `with` block."""
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    display = Progress(*_columns(console.width), console=console, redirect_stdout=False)
    with display:
        yield Bars(display)


def _columns(width: int) -> Iterator[ProgressColumn]:
    """Yield what fits: each row has one line, however narrow the terminal."""
    amounts = width >= _WIDTH_WITH_AMOUNTS
    phase = "{task.fields[phase]:<20}" if amounts else "{task.fields[phase]}"
    yield TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
    yield TextColumn(phase, markup=False, table_column=Column(no_wrap=True))
    if width >= _WIDTH_WITH_BARS:
        yield BarColumn()
    if amounts:
        yield DownloadColumn(binary_units=True, table_column=Column(no_wrap=True))
        yield _Rate(table_column=Column(no_wrap=True))


class _Rate(ProgressColumn):
    """Bytes a second, in the units that the rest of the program uses."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{human_size(int(speed))}/s" if speed else "")


class Bars:
    """A row for each layer: first its download, then its unpacking.

    Where a layer goes to several snapshotters, the first of them takes the row of the download
    over and each other one gets a row below. Rows that are done make room on a low screen.

    Args:
        progress: rich's display, which is started and stopped by whoever made it.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress: Final = progress
        self._lock: Final = threading.Lock()
        self._rows: Final[dict[tuple[str, str], TaskID]] = {}

    def __call__(self, event: Event) -> None:
        """Take one event, from any thread."""
        with self._lock:
            self._show(event)

    def _show(self, event: Event) -> None:
        match event:
            case Resolved(reference, target):
                self._progress.console.print(printable(f"{reference}: {target.digest}"))
            case LayerPlanned():
                self._progress.console.print(printable(planned(event)))
            case FetchStarted(blob) if is_layer(blob.media_type):
                self._restart(blob, "", "downloading")
            case FetchDone(blob, cached) if is_layer(blob.media_type):
                self._finish(blob, "", "here already" if cached else "downloaded")
            case ArchiveRead(where, read, total):
                self._read(where, read, total)
            case SendStarted(blob) if is_layer(blob.media_type):
                self._restart(blob, "", "sending")
            case FetchProgress(blob, offset) | SendProgress(blob, offset):
                self._advance(blob, "", offset)
            case SendDone(blob, how) if is_layer(blob.media_type):
                self._finish(blob, "", SENT[how])
            case UnpackStarted(blob, snapshotter, _):
                self._restart(blob, snapshotter, "unpacking")
            case UnpackProgress(blob, snapshotter, read):
                self._advance(blob, snapshotter, read)
            case LayerDone(blob, snapshotter, _, how):
                self._finish(blob, snapshotter, HOW[how])
            case _:
                pass

    def _read(self, where: str, read: int, total: int) -> None:
        if (where, "") not in self._rows:
            self._rows[where, ""] = self._progress.add_task(
                printable(where), total=total or None, phase="reading"
            )
        self._progress.update(self._rows[where, ""], completed=read)

    def _restart(self, blob: Descriptor, snapshotter: str, phase: str) -> None:
        row, size = self._row(blob, snapshotter), max(blob.size, 1)
        shown = printable(f"{phase} {snapshotter}".rstrip())
        self._progress.reset(row, total=size, completed=0, visible=True, phase=shown)

    def _advance(self, blob: Descriptor, snapshotter: str, count: int) -> None:
        row = self._rows.get((str(blob.digest), snapshotter))
        if row is not None:
            self._progress.update(row, completed=count)

    def _finish(self, blob: Descriptor, snapshotter: str, phase: str) -> None:
        row, size = self._row(blob, snapshotter), max(blob.size, 1)
        self._progress.update(row, total=size, completed=size, phase=phase)

    def _row(self, blob: Descriptor, snapshotter: str) -> TaskID:
        digest = str(blob.digest)
        row = self._rows.get((digest, snapshotter))
        if row is None and snapshotter:
            row = self._rows.pop((digest, ""), None)
        if row is None:
            self._make_room()
            row = self._progress.add_task(
                short(blob.digest), total=max(blob.size, 1), phase="waiting"
            )
        self._rows[digest, snapshotter] = row
        return row

    def _make_room(self) -> None:
        """Hide rows that are done, the oldest first, as long as the next would not be seen."""
        shown = [task for task in self._progress.tasks if task.visible]
        over = len(shown) + 1 - self._progress.console.height
        for task in [task for task in shown if task.finished][: max(over, 0)]:
            self._progress.update(task.id, visible=False)
