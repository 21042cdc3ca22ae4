"""Putting a backend, the wrappers around it and core's defaults together into one set of hooks.

From the caller's side inwards:

    Snapshotter (facade) -> timing -> error mapping of the wrappers -> the wrappers, the first
    named outermost -> error mapping of the backend -> the backend, or core's default
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import pluggy

from snapcore.errors import ContractError, SnapcoreError
from snapcore.snapshots.defaults import DEFAULTS
from snapcore.snapshots.entrypoints import load_plugin
from snapcore.snapshots.hookspecs import (
    HOOKS,
    OPTIONAL_HOOKS,
    PROJECT,
    REQUIRED_HOOKS,
    WRAPPER_ENTRY_POINTS,
    Backend,
    SnapshotterSpec,
    WrapperFactory,
)
from snapcore.snapshots.types import Options
from snapcore.snapshots.wrappers import ErrorMapping, Timing, Trace, add_tracing, mapped_errors

WrapperChoice: TypeAlias = str | WrapperFactory
"""The name of an installed wrapper, or what makes one."""


@dataclass(frozen=True, slots=True)
class Wrapper:
    """A wrapper that was found, and is not made yet.

    Attributes:
        who: names it in messages.
        factory: makes it for one opened snapshotter.
    """

    who: str
    factory: WrapperFactory


@dataclass(frozen=True, slots=True)
class Opened:
    """A backend that was opened.

    Attributes:
        name: of the snapshotter.
        who: names it in messages, with the distribution it comes from.
        backend: the object with the hooks.
        root: its state root.
        options: what it was opened with.
    """

    name: str
    who: str
    backend: Backend
    root: str
    options: Options


def load_wrapper(choice: WrapperChoice, blocked: Collection[str]) -> Wrapper:
    """Find a wrapper: by its name among the installed ones, or as it is.

    Raises:
        NotFound: no such wrapper is installed.
        FailedPrecondition: it is blocked, ambiguous or broken.
        ContractError: it makes nothing.
    """
    if not isinstance(choice, str):
        return Wrapper(f"wrapper {getattr(choice, '__qualname__', choice)!r}", choice)
    plugin, factory = load_plugin(WRAPPER_ENTRY_POINTS, choice, blocked=blocked)
    if not callable(factory):
        raise ContractError(f"wrapper {plugin}: {plugin.module!r} cannot be called")
    return Wrapper(f"wrapper {plugin}", cast(WrapperFactory, factory))


def assemble(
    opened: Opened, wrappers: Sequence[Wrapper], trace: Trace | None
) -> tuple[SnapshotterSpec, Timing]:
    """Put an opened backend together with what goes around it; if that fails, close it.

    Args:
        opened: the backend.
        wrappers: the first one outermost.
        trace: is told about every hook call.

    Returns:
        All hooks of a snapshotter, and how long their calls take.

    Raises:
        ContractError: the backend or a wrapper breaks the contract.
        SnapcoreError: what a wrapper's factory raises.
    """
    try:
        return _assemble(opened, wrappers, trace)
    except BaseException:
        _close_quietly(opened.backend)
        raise


def register(manager: pluggy.PluginManager, plugin: object, name: str, who: str) -> None:
    """Register a plugin whose hooks must all be in the contract.

    Raises:
        ContractError: they are not.
    """
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        raise ContractError(f"{who} does not fit the contract: {error}") from error


def _assemble(
    opened: Opened, wrappers: Sequence[Wrapper], trace: Trace | None
) -> tuple[SnapshotterSpec, Timing]:
    manager, name = pluggy.PluginManager(PROJECT), opened.name
    manager.add_hookspecs(SnapshotterSpec)
    relay = cast(SnapshotterSpec, manager.hook)
    register(manager, opened.backend, name, opened.who)
    _check_complete(manager, opened.backend, opened.who)
    # Of wrappers the one registered last is the outermost.
    manager.register(ErrorMapping(opened.who), "errors")
    for number, wrapper in reversed(list(enumerate(wrappers))):
        with mapped_errors(wrapper.who, "its factory"):
            plugin = wrapper.factory(name, opened.root, opened.options)
        register(manager, plugin, f"wrapper {number}", wrapper.who)
        _check_wraps(manager, f"wrapper {number}", wrapper.who)
    if wrappers:
        names = ", ".join(wrapper.who for wrapper in wrappers)
        manager.register(ErrorMapping(f"{names} around snapshotter {name!r}"), "wrapper errors")
    # When nothing can fail any more, since a default may hold the root open.
    for hook in OPTIONAL_HOOKS:
        if not _implementations(manager, hook):
            manager.register(DEFAULTS[hook](relay, opened.root), f"default {hook}")
    timing = Timing()
    manager.register(timing, "timing")
    if trace is not None:
        add_tracing(manager, name, trace)
    return relay, timing


def _check_complete(manager: pluggy.PluginManager, backend: Backend, who: str) -> None:
    for hook in HOOKS:
        found = _implementations(manager, hook)
        if not found and hook in REQUIRED_HOOKS:
            unmarked = " (its method is not marked with @hookimpl)" * hasattr(backend, hook)
            raise ContractError(f"{who} does not implement {hook}{unmarked}")
        for implementation in found:
            if inspect.iscoroutinefunction(implementation.function):
                raise ContractError(f"{who}: {hook} is async; the contract is synchronous")
        if not found and hasattr(backend, hook):
            raise ContractError(f"{who}: method {hook} is not marked with @hookimpl")


def _check_wraps(manager: pluggy.PluginManager, name: str, who: str) -> None:
    for hook in HOOKS:
        for implementation in _caller(manager, hook).get_hookimpls():
            if implementation.plugin_name == name and not implementation.wrapper:
                raise ContractError(
                    f"{who}: {hook} is not marked with @hookimpl(wrapper=True); a wrapper goes"
                    " around a snapshotter and cannot replace it"
                )


def _implementations(manager: pluggy.PluginManager, hook: str) -> list[pluggy.HookImpl]:
    return [
        implementation
        for implementation in _caller(manager, hook).get_hookimpls()
        if not (implementation.wrapper or implementation.hookwrapper)
    ]


def _caller(manager: pluggy.PluginManager, hook: str) -> pluggy.HookCaller:
    return cast(pluggy.HookCaller, getattr(manager.hook, hook))


def _close_quietly(backend: Backend) -> None:
    close = getattr(backend, "close", None)
    if callable(close):
        try:
            with mapped_errors("backend", "close"):
                close()
        except SnapcoreError:
            # The error that made opening fail is the one to report.
            return
