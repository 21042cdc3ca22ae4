"""Opening a snapshotter by name: load, check options, probe, open, check completeness, wrap.

Every opened snapshotter has a pluggy manager of its own, so that hooks of one never see another
plugin; `snapcore.snapshots.assembly` says what is in it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final, cast

import pluggy

from snapcore.errors import (
    ContractError,
    FailedPrecondition,
    Unimplemented,
)
from snapcore.oci import Descriptor, Digest
from snapcore.snapshots.assembly import Opened, WrapperChoice, assemble, load_wrapper, register
from snapcore.snapshots.entrypoints import load_plugin
from snapcore.snapshots.hookspecs import ENTRY_POINTS, PROJECT, Backend, ModuleSpec
from snapcore.snapshots.options import check_options
from snapcore.snapshots.snapshotter import Snapshotter
from snapcore.snapshots.types import (
    CONTRACT_VERSION,
    ApplyResult,
    Capability,
    Durability,
    IndexBlob,
    LayerLimits,
    Option,
    Options,
    Probe,
)
from snapcore.snapshots.wrappers import Trace, mapped_errors

NO_OPTIONS: Final[Mapping[str, object]] = MappingProxyType({})
SERVED_CONTRACTS: Final = (CONTRACT_VERSION - 1, CONTRACT_VERSION)
"""Contract versions that this core serves."""


def open_snapshotter(
    name: str,
    root: str,
    *,
    options: Mapping[str, object] = NO_OPTIONS,
    wrappers: Sequence[WrapperChoice] = (),
    blocked: Collection[str] = (),
    trace: Trace | None = None,
    probe: Probe | None = None,
    durability: Durability = Durability.FLUSH,
) -> Snapshotter:
    """Open an installed snapshotter on a state root.

    Args:
        name: of its entry point.
        root: absolute path of the state root; the backend makes it.
        options: as `[plugins.<name>]` sets them; defaults are filled in.
        wrappers: go around its hooks, the first one outermost.
        blocked: names of plugins and wrappers that must not be loaded.
        trace: is told about every hook call.
        probe: what `probe_snapshotter` has just said of this root with these options; asked
            for if None.
        durability: when commits are put on disk.

    Returns:
        The snapshotter, which the caller closes.

    Raises:
        NotFound: no such plugin or wrapper is installed.
        FailedPrecondition: it is blocked, ambiguous, broken, or unusable on this host.
        InvalidArgument: an unknown option, or one of the wrong type.
        ContractError: the plugin breaks the contract, or was written for another version.
        SnapcoreError: whatever opening raises.
    """
    module = _Module(name, blocked)
    checked = module.check(options)
    if probe is None:
        probe = module.probe(root, checked)
    if not probe.usable:
        raise FailedPrecondition(f"snapshotter {name!r} cannot work at {root!r}: {probe.reason}")
    if Capability.OWN_APPLY in probe.capabilities and not module.applies:
        raise ContractError(f"{module.who} claims own_apply and does not implement snapcore_apply")
    loaded = [load_wrapper(choice, blocked) for choice in wrappers]
    opened = Opened(name, module.who, module.open(root, checked, probe), root, checked)
    relay, timing = assemble(opened, loaded, trace)
    return Snapshotter(name, root, probe, checked, relay, timing, durability)


def open_backend(
    name: str,
    root: str,
    backend: Backend,
    probe: Probe,
    *,
    wrappers: Sequence[WrapperChoice] = (),
    trace: Trace | None = None,
    durability: Durability = Durability.FLUSH,
) -> Snapshotter:
    """Make a snapshotter of a backend that no installed plugin brings, such as one in a test.

    Args:
        name: to call it by.
        root: absolute path of its state root.
        backend: the object with the hooks, opened by the caller.
        probe: what it can do.
        wrappers: go around its hooks, the first one outermost.
        trace: is told about every hook call.
        durability: when commits are put on disk.

    Returns:
        The snapshotter, which the caller closes.

    Raises:
        NotFound, FailedPrecondition: a wrapper that is named cannot be loaded.
        ContractError: the backend or a wrapper breaks the contract.
    """
    opened = Opened(name, f"snapshotter {name!r}", backend, root, {})
    relay, timing = assemble(opened, [load_wrapper(choice, ()) for choice in wrappers], trace)
    return Snapshotter(name, root, probe, {}, relay, timing, durability)


def probe_snapshotter(
    name: str,
    root: str,
    options: Mapping[str, object] = NO_OPTIONS,
    *,
    blocked: Collection[str] = (),
) -> Probe:
    """Try out whether a snapshotter works at a root, and leave nothing behind.

    Raises:
        NotFound, FailedPrecondition, InvalidArgument, ContractError: as `open_snapshotter`,
            except that a backend that cannot work here says so in the probe.
    """
    module = _Module(name, blocked)
    return module.probe(root, module.check(options))


def snapshotter_options(name: str, *, blocked: Collection[str] = ()) -> Mapping[str, Option]:
    """Return the options that `[plugins.<name>]` may set.

    Raises:
        NotFound, FailedPrecondition, ContractError: as `open_snapshotter`.
    """
    return _Module(name, blocked).schema


def apply_with_plugin(
    name: str, target: str, stream_fd: int, options: Options, limits: LayerLimits
) -> ApplyResult:
    """Have a plugin apply a layer by itself, in this process (capability `own_apply`).

    Args:
        name: of its entry point.
        target: directory to write into.
        stream_fd: the layer's uncompressed tar, open for reading.
        options: checked already, as `Snapshotter.options` has them.
        limits: budgets of the layer.

    Raises:
        NotFound, FailedPrecondition, ContractError: as `open_snapshotter`.
        SnapcoreError: whatever applying raises.
    """
    return _Module(name, ()).apply(target, stream_fd, options, limits)


def can_index(name: str, *, blocked: Collection[str] = ()) -> bool:
    """Tell whether a plugin makes indexes of layers.

    Raises:
        NotFound, FailedPrecondition, ContractError: as `open_snapshotter`.
    """
    return _Module(name, blocked).indexes


def index_with_plugin(
    name: str, blob: int, layer: Descriptor, diff_id: Digest, *, quick: bool = False
) -> IndexBlob:
    """Have a plugin make an index of a layer (hook `snapcore_index`).

    Args:
        name: of its entry point.
        blob: open descriptor of the layer's blob, at its beginning.
        layer: what it is.
        diff_id: of its uncompressed tar.
        quick: rather a larger index that is made sooner.

    Raises:
        Unimplemented: such a layer needs none, or can have none; or the plugin makes none.
        NotFound, FailedPrecondition, ContractError: as `open_snapshotter`.
        SnapcoreError: whatever making it raises.
    """
    return _Module(name, ()).index(blob, layer, diff_id, quick)


class _Module:
    """A plugin module with a manager of its own, its module hooks checked."""

    def __init__(self, name: str, blocked: Collection[str]) -> None:
        self.plugin, module = load_plugin(ENTRY_POINTS, name, blocked=blocked)
        self.who = f"snapshotter {self.plugin}"
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(ModuleSpec)
        register(self.manager, module, f"module {name}", self.who)
        for hook in ("snapcore_probe", "snapcore_open"):
            if not self._caller(hook).get_hookimpls():
                raise ContractError(f"{self.who} does not implement {hook}")
        # Positional arguments are refused by pluggy at run time; all calls here are by keyword.
        self._hooks = cast(ModuleSpec, self.manager.hook)
        self.schema: Mapping[str, Option] = {}
        if self._caller("snapcore_options").get_hookimpls():
            with mapped_errors(self.who, "snapcore_options"):
                self.schema = dict(self._hooks.snapcore_options())

    def check(self, options: Mapping[str, object]) -> Options:
        return check_options(self.plugin.name, self.schema, options)

    def probe(self, root: str, options: Options) -> Probe:
        with mapped_errors(self.who, "snapcore_probe"):
            probe: object = self._hooks.snapcore_probe(root=root, options=options)
        if not isinstance(probe, Probe):
            raise ContractError(f"{self.who}: snapcore_probe returned {probe!r}, not a Probe")
        if probe.contract not in SERVED_CONTRACTS:
            raise ContractError(
                f"{self.who} was written for contract version {probe.contract}; this core serves"
                f" {' and '.join(map(str, SERVED_CONTRACTS))}: install matching versions"
            )
        return probe

    def open(self, root: str, options: Options, probe: Probe) -> Backend:
        with mapped_errors(self.who, "snapcore_open"):
            backend: Backend | None = self._hooks.snapcore_open(
                root=root, options=options, probe=probe
            )
        if backend is None:
            raise ContractError(f"{self.who}: snapcore_open returned None")
        return backend

    @property
    def applies(self) -> bool:
        return bool(self._caller("snapcore_apply").get_hookimpls())

    def apply(
        self, target: str, stream_fd: int, options: Options, limits: LayerLimits
    ) -> ApplyResult:
        with mapped_errors(self.who, "snapcore_apply"):
            result: object = self._hooks.snapcore_apply(
                target=target, stream_fd=stream_fd, options=options, limits=limits
            )
        if not isinstance(result, ApplyResult):
            raise ContractError(f"{self.who}: snapcore_apply returned {result!r}")
        return result

    @property
    def indexes(self) -> bool:
        return bool(self._caller("snapcore_index").get_hookimpls())

    def index(self, blob: int, layer: Descriptor, diff_id: Digest, quick: bool) -> IndexBlob:
        if not self.indexes:
            raise Unimplemented(f"{self.who} makes no indexes of layers")
        with mapped_errors(self.who, "snapcore_index"):
            result: object = self._hooks.snapcore_index(
                blob=blob, layer=layer, diff_id=diff_id, quick=quick
            )
        if not isinstance(result, IndexBlob):
            raise ContractError(f"{self.who}: snapcore_index returned {result!r}")
        return result

    def _caller(self, hook: str) -> pluggy.HookCaller:
        return cast(pluggy.HookCaller, getattr(self.manager.hook, hook))
