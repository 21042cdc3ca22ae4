"""Results on stdout: a table for people or JSON for programs, and nothing else."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TextIO, TypeAlias, cast

from snapcore.cli.text import human_size, printable
from snapcore.errors import from_os_error

Format: TypeAlias = Literal["table", "json"]
Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Record: TypeAlias = Mapping[str, Json]

_WIDTH_WITHOUT_TERMINAL = 100_000


def plain(value: Json) -> str:
    """Show a value as a person reads it: labels as `k=v`, nothing as an empty cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={plain(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(plain(item) for item in value)
    return printable(str(value))


def size(value: Json) -> str:
    """Show a number of bytes."""
    return human_size(value) if isinstance(value, int) else ""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        title: its heading.
        key: which member of a record it shows.
        show: turns the member into text.
        right: align to the right, as numbers are.
    """

    title: str
    key: str
    show: Callable[[Json], str] = plain
    right: bool = False


def write_json(value: Json) -> None:
    """Write one JSON document. Bytes that are not UTF-8 become a backslash escape in a string."""
    text = json.dumps(_encodable(value), indent=2, ensure_ascii=False)
    write_text(text)


def write_line(text: str) -> None:
    """Write one line made printable."""
    write_text(printable(text))


def write_text(text: str) -> None:
    """Write a text of our own making, of any number of lines."""
    with _stdout() as out:
        out.write(text if text.endswith("\n") else text + "\n")


def write_bytes(data: bytes) -> None:
    """Write raw bytes, such as a blob's, as they are."""
    with _stdout() as out:
        out.flush()
        out.buffer.write(data)


def flush() -> None:
    """Hand over what is still buffered.

    Raises:
        ResourceExhausted: stdout is a file on a full disk.
        BrokenPipeError: nobody reads stdout any more.
    """
    with _stdout() as out:
        out.flush()


def write_rows(form: Format, columns: Sequence[Column], rows: Sequence[Record]) -> None:
    """Write records as a JSON array with all members, or as a table of these columns."""
    if form == "json":
        write_json(rows)
    else:
        _write_table(columns, rows)


def write_record(form: Format, record: Record) -> None:
    """Write one record as a JSON object, or as aligned `name value` lines."""
    if form == "json":
        write_json(record)
        return
    width = max((len(key) for key in record), default=0)
    for key, value in record.items():
        write_text(f"{key:<{width}}  {plain(value)}".rstrip())


def _write_table(columns: Sequence[Column], rows: Sequence[Record]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(column.show(row[column.key]) for column in columns))
    terminal = sys.stdout.isatty()
    rendered = io.StringIO()
    Console(
        file=rendered,
        force_terminal=terminal,
        # Without a terminal nothing may be folded: a program or a pager takes whole lines.
        width=None if terminal else _WIDTH_WITHOUT_TERMINAL,
        markup=False,
        highlight=False,
        emoji=False,
    ).print(table)
    write_text("\n".join(line.rstrip() for line in rendered.getvalue().splitlines()))


@contextmanager
def _stdout() -> Iterator[TextIO]:
    try:
        yield sys.stdout
    except BrokenPipeError:
        raise
    except OSError as error:
        raise from_os_error(error, "standard output") from error


def _encodable(value: Json) -> Json:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {cast(str, _encodable(key)): _encodable(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_encodable(item) for item in value]
    return value
