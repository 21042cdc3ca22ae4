"""Results on stdout: a table for people or JSON for programs, and nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from snapcore.cli.text import human_size, printable

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
    sys.stdout.write(text + "\n")


def write_line(text: str) -> None:
    """Write one line made printable."""
    sys.stdout.write(printable(text) + "\n")


def write_text(text: str) -> None:
    """Write a text of our own making, of any number of lines."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def write_bytes(data: bytes) -> None:
    """Write raw bytes, such as a blob's, as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)


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
        sys.stdout.write(f"{key:<{width}}  {plain(value)}".rstrip() + "\n")


def _write_table(columns: Sequence[Column], rows: Sequence[Record]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(column.show(row[column.key]) for column in columns))
    # Without a terminal nothing may be folded: a program or a pager takes whole lines.
    width = None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL
    console = Console(width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)
    with console.capture() as captured:
        console.print(table)
    sys.stdout.writelines(line.rstrip() + "\n" for line in captured.get().splitlines())


def _encodable(value: Json) -> Json:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {cast(str, _encodable(key)): _encodable(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_encodable(item) for item in value]
    return value
