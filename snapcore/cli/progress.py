"""Progress on stderr: a row for each layer on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal

from snapcore.cli.text import human_duration, human_size, printable
from snapcore.oci import Digest, is_layer
from snapcore.unpack.events import (
    Event,
    Events,
    FetchDone,
    FetchStarted,
    ImageUnpacked,
    LayerDone,
    LayerPlanned,
    Outcome,
    Resolved,
    SendDone,
    SendStarted,
    Sent,
    UnpackStarted,
    no_events,
)

HOW: Final[Mapping[Outcome, str]] = {
    "applied": "unpacked",
    "exists": "unpacked before",
    "remote": "supplied by the snapshotter",
    "staged": "staged by the snapshotter",
}

SENT: Final[Mapping[Sent, str]] = {
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
        # Here, since rich is slow to import and not needed for lines.
        from snapcore.cli.bars import on_terminal

        with on_terminal() as bars:
            yield bars
    else:
        yield Lines(_to_stderr)


def short(digest: Digest) -> str:
    """Return the start of a digest's hex, as people know layers."""
    return digest.hex[:12]


def planned(event: LayerPlanned) -> str:
    """Return the line that says what a snapshotter will make of a layer."""
    what = f"lazy ({event.detail})" if event.lazy else f"unpacked, not lazy: {event.detail}"
    return f"{short(event.descriptor.digest)}: {event.snapshotter}: {what}"


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
                return f"{short(blob.digest)}: {SENT[how]} {human_size(blob.size)}{took}"
            case LayerPlanned():
                return planned(event)
            case UnpackStarted(blob, snapshotter, _):
                self._begin(blob.digest, snapshotter)
                return f"{short(blob.digest)}: unpacking for {snapshotter}"
            case LayerDone(blob, snapshotter, _, how):
                took = self._rate(blob.digest, snapshotter, blob.size) if how == "applied" else ""
                return f"{short(blob.digest)}: {HOW[how]} for {snapshotter}{took}"
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


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
