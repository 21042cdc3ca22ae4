"""What each room shows to the others: re-exports only, each name once, each with a docstring.

A room's `__init__.py` has one of two shapes: plain `from … import X as X` lines; or, where
start-up time counts, the same lines under TYPE_CHECKING and `__getattr__ = on_first_use(…)`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

REPO: Final = Path(__file__).resolve().parents[1]
# `cli` is a program, not a library: its commands are its face.
ROOMS: Final = sorted(
    directory.name
    for directory in (REPO / "snapcore").iterdir()
    if directory.is_dir() and any(directory.glob("*.py")) and directory.name != "cli"
)


NEEDS: Final = {"service": "grpc"}
"""What rooms import that only an extra installs."""


def _body(room: str) -> list[ast.stmt]:
    return ast.parse((REPO / "snapcore" / room / "__init__.py").read_bytes()).body


def _lazy_block(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    return [
        inner for statement in body if isinstance(statement, ast.If) for inner in statement.body
    ]


def _re_exports(statements: Sequence[ast.stmt]) -> Iterator[ast.alias]:
    for statement in statements:
        if (
            isinstance(statement, ast.ImportFrom)
            and (statement.module or "").startswith("snapcore")
            and statement.module != "snapcore.lazily"
        ):
            yield from statement.names


def _names(room: str) -> list[str]:
    body = _body(room)
    return [alias.name for alias in _re_exports([*body, *_lazy_block(body)])]


@pytest.mark.parametrize("room", ROOMS)
def test_each_public_name_is_re_exported_once_as_itself(room: str) -> None:
    body = _body(room)
    aliases = list(_re_exports([*body, *_lazy_block(body)]))
    assert [alias.name for alias in aliases if alias.asname != alias.name] == []
    names = Counter(alias.name for alias in aliases)
    assert [name for name, count in names.items() if count > 1 or name.startswith("_")] == []
    assert names, "the room shows nothing"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_computes_nothing_when_imported(room: str) -> None:
    body = _body(room)
    assert ast.get_docstring(ast.Module(body, [])), "no docstring"
    allowed: tuple[type[ast.stmt], ...] = (ast.ImportFrom,)
    if _lazy_block(body):
        allowed += (ast.If, ast.Assign)
    assert [ast.unparse(s)[:60] for s in body[1:] if not isinstance(s, allowed)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_shows_is_there_and_documented(room: str) -> None:
    if room in NEEDS:
        pytest.importorskip(NEEDS[room])
    module = importlib.import_module(f"snapcore.{room}")
    undocumented = [
        name
        for name in _names(room)
        for value in (getattr(module, name),)
        if (inspect.isclass(value) or inspect.isfunction(value)) and not inspect.getdoc(value)
    ]
    assert not undocumented


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_of_a_room_are_documented_in_its_source(room: str) -> None:
    undocumented = [
        f"{path.name}: {node.name}"
        for path in sorted((REPO / "snapcore" / room).rglob("*.py"))
        for node in ast.parse(path.read_bytes()).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not undocumented
