"""Results: JSON that parses, tables that are never folded, names made harmless."""

from __future__ import annotations

import json

import pytest

from snapcore.cli.output import (
    Column,
    plain,
    size,
    write_json,
    write_record,
    write_rows,
)
from snapcore.cli.text import human_duration, human_size, printable, rfc3339

COLUMNS = (Column("NAME", "name"), Column("SIZE", "size", size, right=True))


def test_rows_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("json", COLUMNS, [{"name": "a", "size": 5, "more": {"x": None}}])
    assert json.loads(capsys.readouterr().out) == [{"name": "a", "size": 5, "more": {"x": None}}]


def test_rows_as_table(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("table", COLUMNS, [{"name": "x" * 300, "size": 2048}, {"name": "b", "size": 1}])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "SIZE"]
    assert lines[1].split() == ["x" * 300, "2.0KiB"]
    assert lines[2].split() == ["b", "1B"]
    assert len(lines[1]) == len(lines[2])


def test_empty_table_has_headings(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("table", COLUMNS, [])
    assert capsys.readouterr().out.split() == ["NAME", "SIZE"]


def test_markup_in_names_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("table", COLUMNS, [{"name": "[red]a[/red] :smile:", "size": 0}])
    assert "[red]a[/red] :smile:" in capsys.readouterr().out


def test_bytes_that_are_not_text(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"pa\udcffth": ["\udc80"]})
    assert json.loads(capsys.readouterr().out) == {"pa\\udcffth": ["\\udc80"]}


def test_record(capsys: pytest.CaptureFixture[str]) -> None:
    write_record("table", {"name": "a", "labels": {"k": "v", "l": "w"}, "none": None})
    assert capsys.readouterr().out == "name    a\nlabels  k=v l=w\nnone\n"
    write_record("json", {"name": "a"})
    assert json.loads(capsys.readouterr().out) == {"name": "a"}


def test_plain() -> None:
    assert plain(True) == "yes"
    assert plain(["a", 1]) == "a 1"
    assert plain("\x1b[2J") == "\\x1b[2J"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [("a\tb", "a\\tb"), ("\u202egpj", "\\u202egpj"), ("\x9b", "\\x9b"), ("é€", "é€")],
)
def test_printable(raw: str, shown: str) -> None:
    assert printable(raw) == shown


def test_times_and_sizes() -> None:
    assert rfc3339(1_700_000_000_000_000_001) == "2023-11-14T22:13:20.000000001Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999999999Z"
    assert human_size(1023) == "1023B"
    assert human_size(1536) == "1.5KiB"
    assert human_size(1 << 60) == "1024.0PiB"
    assert human_duration(0.44) == "0.4s"
    assert human_duration(187) == "3m07s"
