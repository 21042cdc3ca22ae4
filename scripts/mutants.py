#!/usr/bin/env python3
"""How much the conformance suite sees: breaks a snapshotter in small ways, counts what is caught.

Each mutant is one small change of the native snapshotter's source: a comparison turned round, a
condition negated, a call left out, a number one larger. Its process runs the suite until a check
fails. Run it from the checkout: `.venv/bin/python -m scripts.mutants [NUMBER]`.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

REPO: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = REPO / "plugins/native/snapcore_native"
MODULES: Final = ("native", "copy", "data", "attributes", "usage", "stamp")
PATIENCE: Final = 120
_OPPOSITE: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module.

    Attributes:
        module: without the package.
        number: of the place, in the order of `places`.
    """

    module: str
    number: int


@dataclass(frozen=True, slots=True)
class _Change:
    node: ast.AST
    field: str
    value: object

    def make(self) -> None:
        setattr(self.node, self.field, self.value)


def places(tree: ast.Module) -> list[_Change]:
    """Return the changes that can be made to a module, in a fixed order."""
    return [change for node in ast.walk(tree) if (change := _change(node)) is not None]


def mutate(mutant: Mutant) -> tuple[CodeType, str]:
    """Return the code of a changed module, and what the change is."""
    path = PACKAGE / f"{mutant.module}.py"
    tree = ast.parse(path.read_bytes())
    change = places(tree)[mutant.number]
    node = change.node
    before = ast.unparse(node).partition("\n")[0]
    change.make()
    ast.fix_missing_locations(tree)
    after = ast.unparse(node).partition("\n")[0]
    line = getattr(node, "lineno", 0)
    return compile(tree, str(path), "exec"), f"{mutant.module}.py:{line}: {before} -> {after}"


def _change(node: ast.AST) -> _Change | None:
    """Return the one change that can be made to a node, None if there is none."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in _OPPOSITE:
            return _Change(node, "ops", [_OPPOSITE[type(operator)]()])
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            return _Change(node, "test", ast.UnaryOp(ast.Not(), test))
        case ast.BoolOp(op=operator):
            other = ast.Or() if isinstance(operator, ast.And) else ast.And()
            return _Change(node, "op", other)
        case ast.Constant(value=bool(value)):
            return _Change(node, "value", not value)
        case ast.Constant(value=int(number)):
            return _Change(node, "value", number + 1)
        case ast.Expr(value=ast.Call()):
            return _Change(node, "value", ast.Constant(None))
    return None


class _Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads the changed module in the place of the one on disk."""

    def __init__(self, name: str, code: CodeType) -> None:
        self._name = name
        self._code = code

    def find_spec(
        self,
        fullname: str,
        path: object,  # noqa: ARG002 - the protocol's
        target: ModuleType | None = None,  # noqa: ARG002 - the protocol's
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)


def run(mutant: Mutant) -> int:
    """Run the suite over a mutant in this process; return 1 once a check fails, else 0."""
    code, _ = mutate(mutant)
    sys.meta_path.insert(0, _Loader(f"snapcore_native.{mutant.module}", code))
    from snapcore.conformance import ALL_CHECKS, Outcome, Subject, run_checks
    from snapcore.snapshots import open_snapshotter

    # Other processes would load what is on disk.
    subject = Subject(lambda root: open_snapshotter("native", root), installed=False)
    checks = [check for check in ALL_CHECKS if not check.long]
    with tempfile.TemporaryDirectory() as place:
        for result in run_checks(checks, subject, place, {}):
            if result.outcome is Outcome.FAILED:
                print(f"{result.check}: {result.reason.splitlines()[0][:100]}")
                return 1
    return 0


def sample(number: int) -> Iterator[Mutant]:
    """Choose mutants of all modules, the same each time."""
    every = [
        Mutant(module, index)
        for module in MODULES
        for index in range(len(places(ast.parse((PACKAGE / f"{module}.py").read_bytes()))))
    ]
    yield from random.Random(0).sample(every, min(number, len(every)))


def main(arguments: Sequence[str]) -> int:
    """Run mutants, each in a process of its own, and print which were caught and the rate."""
    if len(arguments) == 2:
        return run(Mutant(arguments[0], int(arguments[1])))
    number = int(arguments[0]) if arguments else 60
    killed = total = 0
    for mutant in sample(number):
        _, what = mutate(mutant)
        caught, how = _apart(mutant)
        total += 1
        killed += caught
        print(f"{'caught' if caught else 'MISSED'}  {what}  {how}", flush=True)
    print(f"{killed} of {total} mutants caught: {100 * killed / total:.0f} %")
    return 0


def _apart(mutant: Mutant) -> tuple[bool, str]:
    command = [sys.executable, "-m", "scripts.mutants", mutant.module, str(mutant.number)]
    # A mount namespace of its own, so that nothing that is mounted outlives it.
    isolated = ["unshare", "--mount"] if os.geteuid() == 0 else []
    try:
        done = subprocess.run(
            [*isolated, *command],
            cwd=REPO,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True, f"no end in {PATIENCE} s"
    return done.returncode != 0, done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
