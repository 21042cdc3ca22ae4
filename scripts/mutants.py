#!/usr/bin/env python3
"""How much the conformance suite sees: breaks a snapshotter in small ways, counts what is caught.

Each mutant is one small change of the native snapshotter's source: a comparison turned round, a
condition negated, a call left out, a number one larger. Its process runs the suite until a check
fails, those first that have caught the most so far. What `scripts.mutants_known` says to be no
fault, or out of the suite's sight, is named and not run. Run it from the checkout:

    .venv/bin/python -m scripts.mutants            # all
    .venv/bin/python -m scripts.mutants 60         # as many, the same each time
    .venv/bin/python -m scripts.mutants copy 17    # this one
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
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

from scripts.mutants_known import KNOWN

REPO: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = REPO / "plugins/native/snapcore_native"
MODULES: Final = ("native", "copy", "data", "attributes", "usage", "stamp")
CHECK_SECONDS: Final = 100
"""What a check may take; one that deadlocks is caught."""
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
class Change:
    """One change that can be made to a tree.

    Attributes:
        node: which node.
        field: which of its fields.
        value: what that becomes.
        function: the class and function it is in, "" for none.
    """

    node: ast.AST
    field: str
    value: object
    function: str

    def make(self) -> str:
        """Change the tree, and return what the change is."""
        before = ast.unparse(self.node).partition("\n")[0]
        setattr(self.node, self.field, self.value)
        ast.fix_missing_locations(self.node)
        return f"{before} -> {ast.unparse(self.node).partition(chr(10))[0]}"


def places(tree: ast.AST, function: str = "") -> Iterator[Change]:
    """Yield the changes that can be made to a module, in a fixed order."""
    for node in ast.iter_child_nodes(tree):
        if (found := _change(node)) is not None:
            yield Change(node, *found, function)
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield from places(node, f"{function}.{node.name}".strip("."))
        else:
            yield from places(node, function)


def mutate(mutant: Mutant) -> tuple[CodeType, str, int]:
    """Return the code of a changed module, what the change is, and in which line."""
    path = PACKAGE / f"{mutant.module}.py"
    tree = ast.parse(path.read_bytes())
    change = list(places(tree))[mutant.number]
    line, column = getattr(change.node, "lineno", 1), getattr(change.node, "col_offset", 0)
    where = f"{mutant.module}.{change.function}".strip(".")
    what = f"{where}: {change.make()}"
    if isinstance(change.node, ast.Constant):
        what += f" in {path.read_text().splitlines()[line - 1][column:]}"
    return compile(ast.fix_missing_locations(tree), str(path), "exec"), what, line


def _change(node: ast.AST) -> tuple[str, object] | None:
    """Return the field of a node that can be changed, and to what; None if there is none."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in _OPPOSITE:
            return "ops", [_OPPOSITE[type(operator)]()]
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            return "test", ast.UnaryOp(ast.Not(), test)
        case ast.BoolOp(op=operator):
            return "op", ast.Or() if isinstance(operator, ast.And) else ast.And()
        case ast.Constant(value=bool(value)):
            return "value", not value
        case ast.Constant(value=int(number)):
            return "value", number + 1
        case ast.Expr(value=ast.Call()):
            return "value", ast.Constant(None)
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


def run(mutant: Mutant, first: Sequence[str]) -> int:
    """Run the suite over a mutant in this process; return 1 once a check fails, else 0.

    Args:
        mutant: which.
        first: names of the checks to begin with.
    """
    code, _, _ = mutate(mutant)
    sys.meta_path.insert(0, _Loader(f"snapcore_native.{mutant.module}", code))
    from snapcore.conformance import ALL_CHECKS, Outcome, Subject, run_checks
    from snapcore.snapshots import open_snapshotter

    order = {name: place for place, name in enumerate(first)}
    checks = [check for check in ALL_CHECKS if not check.long]
    checks.sort(key=lambda check: order.get(check.name, len(order)))
    # Other processes would load what is on disk.
    subject = Subject(lambda root: open_snapshotter("native", root), installed=False)
    with tempfile.TemporaryDirectory() as place:
        for result in run_checks(checks, subject, place, {}, CHECK_SECONDS):
            if result.outcome is Outcome.FAILED:
                print(f"{result.check}: {result.reason.splitlines()[0][:100]}")
                return 1
    return 0


def every() -> list[Mutant]:
    """Return all mutants of all modules."""
    return [
        Mutant(module, index)
        for module in MODULES
        for index, _ in enumerate(places(ast.parse((PACKAGE / f"{module}.py").read_bytes())))
    ]


def main(arguments: Sequence[str]) -> int:
    """Run mutants, each in a process of its own, and print which were caught and the rate."""
    if len(arguments) > 1:
        return run(Mutant(arguments[0], int(arguments[1])), arguments[2:])
    mutants = every()
    if arguments:
        mutants = random.Random(0).sample(mutants, min(int(arguments[0]), len(mutants)))
    found, kills = Counter[str](), Counter[str]()
    for mutant in mutants:
        _, what, line = mutate(mutant)
        verdict, how = _verdict(mutant, what, [name for name, _ in kills.most_common()])
        found[verdict] += 1
        kills[how.partition(":")[0]] += verdict == "caught"
        print(f"{verdict}  {mutant.module} {mutant.number} :{line}  {what}  {how}", flush=True)
    print(_summary(found))
    return 0


def _summary(found: Counter[str]) -> str:
    """Return how many came to what, and how many of those that are faults were caught."""
    faults = found.total() - found["same"]
    told = ", ".join(f"{number} {verdict}" for verdict, number in found.most_common())
    rate = 100 * found["caught"] / max(faults, 1)
    return f"{found.total()} mutants: {told}; {rate:.0f} % of those that are faults were caught"


def _verdict(mutant: Mutant, what: str, first: Sequence[str]) -> tuple[str, str]:
    """Return what becomes of a mutant, and by which check or why; in a process of its own."""
    if what in KNOWN:
        return KNOWN[what].verdict, KNOWN[what].why
    command = [sys.executable, "-m", "scripts.mutants", mutant.module, str(mutant.number), *first]
    # A mount namespace of its own, so that nothing that is mounted outlives it.
    isolated = ["unshare", "--mount"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*isolated, *command], cwd=REPO, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return "MISSED", ""
    said = done.stdout.strip() or f"does not start: {done.stderr.strip().splitlines()[-1:]}"
    return "caught", said


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
