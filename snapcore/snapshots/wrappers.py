"""The wrappers that core puts around every snapshotter: error mapping, timing, tracing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import pluggy

from snapcore.errors import ContractError, ResourceExhausted, SnapcoreError, from_os_error
from snapcore.snapshots.hookspecs import HOOKS, hookimpl

_Wrapper: TypeAlias = Callable[[], Generator[None, object, object]]


@contextmanager
def mapped_errors(who: str, hook: str) -> Iterator[None]:
    """Turn whatever a plugin raises into our tree; ours and BaseExceptions pass.

    Args:
        who: names the plugin, such as `snapshotter 'overlay'`.
        hook: which of its hooks is called.

    Raises:
        ContractError: it raised something that no plugin may raise.
        SnapcoreError: an OSError or MemoryError, mapped; or what it raised of ours.
    """
    try:
        yield
    except SnapcoreError:
        raise
    except OSError as error:
        raise from_os_error(error, f"{who}, {hook}") from error
    except MemoryError as error:
        raise ResourceExhausted(f"{who}, {hook}: out of memory") from error
    except Exception as error:
        raise ContractError(
            f"{who} broke the contract: {hook} raised {type(error).__name__}: {error}"
        ) from error


class _EveryHook:
    """A plugin object with one wrapper for each hook of a snapshotter."""

    def __init__(self, make: Callable[[str], _Wrapper]) -> None:
        for hook in HOOKS:
            # A function on the instance counts as a hook (pluggy 1.7, parse_hookimpl_opts).
            setattr(self, hook, hookimpl(wrapper=True)(make(hook)))


class ErrorMapping(_EveryHook):
    """Keeps errors that are not ours from leaving a hook; see `mapped_errors`.

    Args:
        who: names whose errors they are.
    """

    def __init__(self, who: str) -> None:
        def make(hook: str) -> _Wrapper:
            def wrapper() -> Generator[None, object, object]:
                with mapped_errors(who, hook):
                    return (yield)

            return wrapper

        super().__init__(make)


@dataclass(frozen=True, slots=True)
class HookTiming:
    """How long the calls of one hook took, failed ones included.

    Attributes:
        count: calls that ended.
        total: nanoseconds of all.
        maximum: nanoseconds of the longest.
    """

    count: int = 0
    total: int = 0
    maximum: int = 0


class Timing(_EveryHook):
    """Times every hook call."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._timings: dict[str, HookTiming] = {}

        def make(hook: str) -> _Wrapper:
            def wrapper() -> Generator[None, object, object]:
                begun = time.perf_counter_ns()
                try:
                    return (yield)
                finally:
                    self._add(hook, time.perf_counter_ns() - begun)

            return wrapper

        super().__init__(make)

    def timings(self) -> Mapping[str, HookTiming]:
        """Return the timings so far, by hook; hooks that were never called are left out."""
        with self._guard:
            return dict(self._timings)

    def _add(self, hook: str, nanoseconds: int) -> None:
        with self._guard:
            old = self._timings.get(hook, HookTiming())
            self._timings[hook] = HookTiming(
                old.count + 1, old.total + nanoseconds, max(old.maximum, nanoseconds)
            )


@dataclass(frozen=True, slots=True)
class HookTrace:
    """One hook call that ended.

    Attributes:
        snapshotter: name of the snapshotter.
        hook: name of the hook.
        arguments: by name, as `repr` shows them.
        outcome: the answer or the exception, as `repr` shows it.
        failed: whether it is an exception.
        nanoseconds: how long it took.
        depth: 0 for a caller's, more for calls made while another is under way.
    """

    snapshotter: str
    hook: str
    arguments: Mapping[str, str]
    outcome: str
    failed: bool
    nanoseconds: int
    depth: int

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        arrow = "!!" if self.failed else "->"
        return (
            f"{'  ' * self.depth}{self.snapshotter}.{self.hook}({arguments}) {arrow}"
            f" {self.outcome} [{self.nanoseconds / 1e6:.3f} ms]"
        )


Trace: TypeAlias = Callable[[HookTrace], None]
"""What is told about every hook call, from the thread that made it."""


def add_tracing(manager: pluggy.PluginManager, snapshotter: str, trace: Trace) -> None:
    """Have `trace` told about every hook call of a manager."""
    local = threading.local()

    def before(_hook: str, _impls: object, _arguments: Mapping[str, object]) -> None:
        local.begun = (*getattr(local, "begun", ()), time.perf_counter_ns())

    def after(
        outcome: pluggy.Result[object],
        hook: str,
        _impls: Sequence[object],
        arguments: Mapping[str, object],
    ) -> None:
        nanoseconds = time.perf_counter_ns() - local.begun[-1]
        local.begun = local.begun[:-1]
        failure = outcome.exception
        trace(
            HookTrace(
                snapshotter=snapshotter,
                hook=hook,
                arguments={
                    name: getattr(value, "__qualname__", "") or repr(value)
                    for name, value in arguments.items()
                },
                outcome=repr(outcome.get_result() if failure is None else failure),
                failed=failure is not None,
                nanoseconds=nanoseconds,
                depth=len(local.begun),
            )
        )

    manager.add_hookcall_monitoring(before, after)
