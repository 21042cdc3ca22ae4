"""Progress on stderr: a row for each layer on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from snapcore.cli.text import human_duration, human_size, printable
from snapcore.oci import Digest, is_layer
from snapcore.unpack.events import (
    ArchiveRead,
    Event,
    Events,
    FetchDone,
    FetchProgress,
    FetchStarted,
    ImageUnpacked,
    LayerDone,
    Resolved,
    SendDone,
    SendProgress,
    SendStarted,
    UnpackProgress,
    UnpackStarted,
    no_events,
)

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_HOW: Final = {
    "applied": "unpacked",
    "exists": "unpacked before",
    "remote": "supplied by the snapshotter",
    "staged": "staged by the snapshotter",
}

_SENT: Final = {
    "written": "written",
    "uploaded": "uploaded",
    "mounted": "taken from another repository",
    "exists": "there already",
}


@contextmanager
def reporter(style: Literal["auto", "plain", "none"], quiet: bool) -> Iterator[Events]:
    """Show progress for the duration of a `with` block.

    Args:
        style: bars on a terminal and lines elsewhere, lines, or nothing.
        quiet: show nothing, whatever the style.

    Yields:
        What to tell events to, from any thread.
    """
    if quiet or style == "none":
        yield no_events
    elif style == "auto" and sys.stderr.isatty():
        with _bars() as bars:
            yield bars
    else:
        yield Lines(_to_stderr)


def short(digest: Digest) -> str:
    """Return the start of a digest's hex, as people know layers."""
    return digest.hex[:12]


class Lines:
    """One line when a layer's download or unpacking ends, and one for the image.

    Args:
        write: gets each line, without its newline.
        clock: seconds, for durations.
    """

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write: Final = write
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._started: Final[dict[tuple[Digest, str], float]] = {}

    def __call__(self, event: Event) -> None:
        """Take one event, from any thread."""
        with self._lock:
            line = self._line(event)
            if line:
                self._write(printable(line))

    def _line(self, event: Event) -> str:
        match event:
            case Resolved(reference, target):
                return f"{reference}: {target.digest}"
            case ImageUnpacked(_, snapshotter, chain_id):
                return f"image unpacked for {snapshotter}: {chain_id or 'no layers'}"
            case FetchStarted(blob) if is_layer(blob.media_type):
                self._begin(blob.digest, "")
                return f"{short(blob.digest)}: downloading {human_size(blob.size)}"
            case FetchDone(blob, cached) if is_layer(blob.media_type):
                if cached:
                    return f"{short(blob.digest)}: here already"
                return f"{short(blob.digest)}: downloaded {human_size(blob.size)}" + self._rate(
                    blob.digest, "", blob.size
                )
            case SendStarted(blob) if is_layer(blob.media_type):
                self._begin(blob.digest, "send")
                return ""
            case SendDone(blob, how) if is_layer(blob.media_type):
                took = self._rate(blob.digest, "send", blob.size)
                return f"{short(blob.digest)}: {_SENT[how]} {human_size(blob.size)}{took}"
            case UnpackStarted(blob, snapshotter, _):
                self._begin(blob.digest, snapshotter)
                return f"{short(blob.digest)}: unpacking for {snapshotter}"
            case LayerDone(blob, snapshotter, _, how):
                took = self._rate(blob.digest, snapshotter, blob.size) if how == "applied" else ""
                return f"{short(blob.digest)}: {_HOW[how]} for {snapshotter}{took}"
            case _:
                return ""

    def _begin(self, digest: Digest, what: str) -> None:
        self._started[digest, what] = self._clock()

    def _rate(self, digest: Digest, what: str, size: int) -> str:
        began = self._started.pop((digest, what), None)
        if began is None:
            return ""
        seconds = max(self._clock() - began, 1e-6)
        return f" in {human_duration(seconds)} ({human_size(int(size / seconds))}/s)"


class Bars:
    """A row for each layer: first its download, then its unpacking.

    Args:
        progress: rich's display, which is started and stopped by whoever made it.
    """

    def __init__(self, progress: RichProgress) -> None:
        self._progress: Final = progress
        self._lock: Final = threading.Lock()
        self._rows: Final[dict[Digest, TaskID]] = {}
        self._archives: Final[dict[str, TaskID]] = {}

    def __call__(self, event: Event) -> None:
        """Take one event, from any thread."""
        with self._lock:
            self._show(event)

    def _show(self, event: Event) -> None:
        match event:
            case Resolved(reference, target):
                self._progress.console.print(printable(f"{reference}: {target.digest}"))
            case FetchStarted(blob) if is_layer(blob.media_type):
                self._restart(blob.digest, "downloading", blob.size)
            case FetchProgress(blob, offset) if blob.digest in self._rows:
                self._progress.update(self._rows[blob.digest], completed=offset)
            case FetchDone(blob, cached) if is_layer(blob.media_type):
                self._finish(blob.digest, "here already" if cached else "downloaded", blob.size)
            case ArchiveRead(where, read, total):
                self._read(where, read, total)
            case SendStarted(blob) if is_layer(blob.media_type):
                self._restart(blob.digest, "sending", blob.size)
            case SendProgress(blob, offset) if blob.digest in self._rows:
                self._progress.update(self._rows[blob.digest], completed=offset)
            case SendDone(blob, how) if is_layer(blob.media_type):
                self._finish(blob.digest, _SENT[how], blob.size)
            case UnpackStarted(blob, snapshotter, _):
                self._restart(blob.digest, f"unpacking {printable(snapshotter)}", blob.size)
            case UnpackProgress(blob, _, read) if blob.digest in self._rows:
                self._progress.update(self._rows[blob.digest], completed=read)
            case LayerDone(blob, _, _, how):
                self._finish(blob.digest, _HOW[how], blob.size)
            case _:
                pass

    def _read(self, where: str, read: int, total: int) -> None:
        if where not in self._archives:
            self._archives[where] = self._progress.add_task(
                printable(where), total=total or None, phase="reading"
            )
        self._progress.update(self._archives[where], completed=read)

    def _restart(self, digest: Digest, phase: str, size: int) -> None:
        row = self._row(digest, size)
        self._progress.reset(row, total=max(size, 1), completed=0, phase=phase)

    def _finish(self, digest: Digest, phase: str, size: int) -> None:
        row = self._row(digest, size)
        self._progress.update(row, total=max(size, 1), completed=max(size, 1), phase=phase)

    def _row(self, digest: Digest, size: int) -> TaskID:
        if digest not in self._rows:
            self._rows[digest] = self._progress.add_task(
                short(digest), total=max(size, 1), phase="waiting"
            )
        return self._rows[digest]


@contextmanager
def _bars() -> Iterator[Bars]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TransferSpeedColumn,
    )

    display = Progress(
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[phase]:<20}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        console=Console(stderr=True, markup=False, highlight=False, emoji=False),
        redirect_stdout=False,
    )
    with display:
        yield Bars(display)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
