"""Which snapshotter a node uses, and opening it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields

from snapcore.config import NodeConfig
from snapcore.errors import FailedPrecondition, ResourceExhausted, SnapcoreError
from snapcore.metadata import SnapshotterStore
from snapcore.node.readonly import ReadOnly
from snapcore.snapshots import (
    Capability,
    HookTrace,
    Options,
    Probe,
    Snapshotter,
    State,
    WrapperChoice,
    list_plugins,
    open_snapshotter,
    probe_snapshotter,
    snapshotter_options,
)
from snapcore.unpack import reclaim, remove_leftovers

_log = logging.getLogger(__name__)


class Snapshotters:
    """The opened snapshotters of one node, each opened on first use."""

    def __init__(
        self,
        config: NodeConfig,
        records: SnapshotterStore,
        trace: Callable[[HookTrace], None] | None,
        *,
        read_only: bool = False,
    ) -> None:
        """See `Node`; `read_only` opens what is there without trying it out or writing."""
        self._read_only = read_only
        self._config = config
        self._records = records
        self._trace = trace
        self._opened: dict[str, Snapshotter] = {}
        self._probes: dict[str, Probe] = {}

    def get(self, name: str = "") -> Snapshotter:
        """Return an opened snapshotter, the node's own choice for "".

        Raises:
            NotFound: no such plugin is installed.
            FailedPrecondition: it does not work here, or nothing does.
        """
        name = name or self.default_name()
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    def default_names(self) -> tuple[str, ...]:
        """Return the snapshotters that images are unpacked for, as the configuration selects.

        Raises:
            FailedPrecondition: as `default_name`.
        """
        return self._config.snapshotters or (self.default_name(),)

    def default_name(self) -> str:
        """Return the snapshotter that the configuration selects on this host.

        `auto` takes, among those whose probe succeeds, one that has all of an image here before
        one that goes back to the registry, one that shares layers before one that copies them,
        one that core applies layers to before one that does so itself, then the most capable one.

        In a root that cannot be written nothing can be tried; there it is what was used first.

        Raises:
            FailedPrecondition: `auto`, and nothing works here; each reason is named.
            ResourceExhausted: likewise, since the disk is full.
        """
        if self._config.snapshotters:
            return self._config.snapshotters[0]
        if self._read_only:
            return self._first_used()
        probes = self._probes or self.probe_all()
        usable = [name for name, probe in probes.items() if probe.usable]
        if not usable:
            reasons = [f"{name}: {probe.reason}" for name, probe in probes.items()]
            full = any(isinstance(probe.findings, ResourceExhausted) for probe in probes.values())
            raise (ResourceExhausted if full else FailedPrecondition)(
                f"no snapshotter works below {self._config.root!r}:"
                f" {'; '.join(reasons) or 'none is installed'}"
            )

        def worth(name: str) -> tuple[bool, bool, bool, int]:
            found = probes[name].capabilities
            local, ours = Capability.REMOTE not in found, Capability.OWN_APPLY not in found
            return local, Capability.REBASE in found, ours, len(found)

        return max(usable, key=worth)

    def probe_all(self) -> dict[str, Probe]:
        """Probe every installed plugin; one that cannot even be loaded says so in its reason."""
        result: dict[str, Probe] = {}
        for plugin in list_plugins(blocked=self._config.blocked):
            try:
                result[plugin.name] = probe_snapshotter(
                    plugin.name,
                    self.root_of(plugin.name),
                    options=self._options(plugin.name),
                    blocked=self._config.blocked,
                )
            except SnapcoreError as error:
                result[plugin.name] = Probe(usable=False, reason=str(error), findings=error)
        # Where nothing works, it may be worth while to look again later.
        self._probes = result if any(probe.usable for probe in result.values()) else {}
        return result

    def root_of(self, name: str) -> str:
        """Return the state root of a snapshotter of this node."""
        return os.path.join(self._config.root, "snapshotters", name)

    def known(self) -> tuple[str, ...]:
        """Return the names of all snapshotters that have been used below this root."""
        return tuple(record.name for record in self._records.list())

    def not_durable(self) -> int:
        """Count the commits that a power cut may still take away, or has broken.

        Those of a snapshotter that cannot be opened are not counted.
        """
        count = 0
        for name in self.known():
            with suppress(SnapcoreError):
                count += sum(info.state is not State.DURABLE for info in self.get(name).walk())
        return count

    def flush(self) -> None:
        """Put on disk what was committed and is not there yet, unless durability is `none`.

        Raises:
            DataLoss: a sync failed.
        """
        for snapshotter in self._opened.values():
            if snapshotter.unflushed:
                snapshotter.flush()

    def close(self) -> None:
        """Close all that are open."""
        while self._opened:
            self._opened.popitem()[1].close()

    def _first_used(self) -> str:
        used = self._records.list()
        if not used:
            raise FailedPrecondition(
                f"no snapshotter has been used below {self._config.root!r} yet, and it is read-only"
            )
        return min(used, key=lambda record: record.created).name

    def _options(self, name: str) -> Options:
        """Return a snapshotter's options; those that are called as in `[registry]` follow it.

        So a backend that goes to registries by itself reaches them as the node does.
        """
        schema = snapshotter_options(name, blocked=self._config.blocked)
        registry = self._config.registry
        shared = {
            field.name: getattr(registry, field.name)
            for field in fields(registry)
            if field.name in schema
        }
        return {**shared, **self._config.plugins.get(name, {})}

    def _open(self, name: str) -> Snapshotter:
        options = self._options(name)
        probe = self._probes.get(name)
        wrappers: tuple[WrapperChoice, ...] = self._config.wrappers
        if self._read_only:
            # Trying out means writing; what only looks needs no capability.
            probe = Probe(usable=True)
            wrappers = (ReadOnly, *wrappers)
        snapshotter = open_snapshotter(
            name,
            self.root_of(name),
            options=options,
            wrappers=wrappers,
            blocked=self._config.blocked,
            trace=self._trace,
            probe=probe if probe and probe.usable else None,
            durability=self._config.durability,
        )
        if not self._read_only:
            self._settle_in(name, snapshotter)
        return snapshotter

    def _settle_in(self, name: str, snapshotter: Snapshotter) -> None:
        """Record that it is used here, and clear away what dead processes left in it."""
        try:
            self._records.record(name, self._config.plugins.get(name, {}))
            found = {
                "unfinished snapshots": len(remove_leftovers(snapshotter, self._config.root)),
                "directories": reclaim(snapshotter),
            }
            for what, count in found.items():
                if count:
                    _log.info("cleared up %s of %s: %d", what, name, count)
        except BaseException:
            snapshotter.close()
            raise
