"""Running the command line on a terminal, and seeing what its user sees."""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from support.cli import child_environment
from support.nodes import PATIENCE_SECONDS

_STEP: Final = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")
_UNFINISHED: Final = re.compile(r"\x1b(?:\[\??[\d;]*)?\Z")


@dataclass(slots=True)
class Screen:
    """What a terminal shows: only the sequences that progress displays use.

    Attributes:
        width: columns; longer lines go on in the next row.
        rows: text so far; nothing scrolls away.
        cursor_hidden: whether the cursor is hidden.
    """

    width: int
    rows: list[str] = field(default_factory=lambda: [""])
    cursor_hidden: bool = False
    _row: int = 0
    _column: int = 0
    _rest: str = ""
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=codecs.getincrementaldecoder("utf-8")
    )

    def feed(self, data: bytes) -> None:
        """Take what a program has written; a read may end in the midst of a character."""
        text = self._rest + self._decoder.decode(data)
        tail = _UNFINISHED.search(text)
        self._rest = tail[0] if tail else ""
        for found in _STEP.finditer(text.removesuffix(self._rest)):
            if found[2] is not None:
                self._control(found[1], found[2])
            elif found[0] == "\r":
                self._column = 0
            elif found[0] == "\n":
                self._down()
            else:
                self._write(found[0])

    def _write(self, text: str) -> None:
        for character in text:
            if self._column == self.width:
                self._down()
                self._column = 0
            line = self.rows[self._row].ljust(self._column)
            self.rows[self._row] = line[: self._column] + character + line[self._column + 1 :]
            self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self.rows):
            self.rows.append("")

    def _control(self, arguments: str, name: str) -> None:
        if name == "A":
            self._row = max(self._row - int(arguments or 1), 0)
        elif name == "K":
            self.rows[self._row] = ""
        elif arguments == "?25":
            self.cursor_hidden = name == "l"
        else:
            assert name == "m", f"unknown sequence {arguments}{name}"


@dataclass(slots=True)
class Terminal:
    """A program on a terminal.

    Attributes:
        screen: what its user sees now.
        frames: every state of the screen, as one text each.
        child: the program; its stdout is a pipe.
        modes: the terminal's modes (termios(3)) before the program ran.
    """

    screen: Screen
    child: subprocess.Popen[bytes]
    modes: list[object]
    _master: int
    frames: list[str] = field(default_factory=list)

    def until(self, condition: Callable[[str], bool]) -> None:
        """Wait until the screen fulfils a condition."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (self.frames and condition(self.frames[-1])):
            assert time.monotonic() < deadline, self.frames[-1:]
            assert self._read(), self.frames[-1:]

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._master, keys)

    def end(self) -> tuple[int, str]:
        """Wait for the program's end; return its exit code and what it wrote to stdout."""
        while self._read():
            pass
        assert self.child.stdout is not None
        out = self.child.stdout.read().decode()
        return self.child.wait(PATIENCE_SECONDS), out

    def current_modes(self) -> list[object]:
        """Return the terminal's modes now."""
        return termios.tcgetattr(self._master)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], PATIENCE_SECONDS)
        assert ready, "the program has written nothing for long"
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # EIO: nobody has the other side open any more (pty(7))
            return False
        self.screen.feed(data)
        self.frames.append("\n".join(self.screen.rows))
        return True


@contextmanager
def on_terminal(*arguments: str, width: int = 100, height: int = 30) -> Iterator[Terminal]:
    """Run `snapcore` with stdin and stderr on a terminal of its own, beside a `with` block."""
    environment = child_environment({"TERM": "xterm"})
    for variable in ("COLUMNS", "LINES"):
        environment.pop(variable, None)
    master, slave = os.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        modes = termios.tcgetattr(master)
        with subprocess.Popen(
            [sys.executable, "-c", _ADOPT, "-m", "snapcore.cli", *arguments],
            env=environment,
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=slave,
            start_new_session=True,
        ) as child:
            os.close(slave)
            try:
                yield Terminal(Screen(width), child, modes, master)
            finally:
                child.send_signal(signal.SIGKILL)
    finally:
        os.close(master)


# Without a controlling terminal, Ctrl-C would be a character like any other.
_ADOPT: Final = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
