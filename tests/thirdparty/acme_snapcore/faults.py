"""A wrapper that raises a chosen error at the n-th call of a hook, before or after it ran."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from dataclasses import dataclass

from snapcore.errors import Unavailable
from snapcore.snapshots import Options, hookimpl


class Faults:
    def __init__(self, hook: str, number: int, error: BaseException, late: bool) -> None:
        calls = itertools.count(1)

        @hookimpl(wrapper=True)
        def wrapper() -> Generator[None, object, object]:
            hit = next(calls) == number
            if hit and not late:
                raise error
            result = yield
            if hit:
                raise error
            return result

        setattr(self, hook, wrapper)


@dataclass(frozen=True)
class FaultFactory:
    hook: str
    number: int
    error: BaseException
    late: bool = False

    def __call__(self, name: str, root: str, options: Options) -> Faults:
        return Faults(self.hook, self.number, self.error, self.late)


SECOND_PREPARE = FaultFactory("prepare", 2, Unavailable("injected"))
