"""The lazy layers of one daemon: resolved, made, served, kept, and dropped."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

import trio

from snapcore.archive import Limits
from snapcore.archive.virtual import DiskLayer, NotLazy
from snapcore.errors import DataLoss, InvalidArgument, NotFound, SnapcoreError, from_os_error
from snapcore.oci import WhiteoutStyle
from snapcore_fuse.daemon.ahead import Ahead, Resolved
from snapcore_fuse.daemon.data import Supply
from snapcore_fuse.daemon.messages import Build, LayerState, Outcome, Plan, Resolve
from snapcore_fuse.daemon.metrics import render
from snapcore_fuse.daemon.origin import NoIndex
from snapcore_fuse.daemon.places import Files, Places
from snapcore_fuse.daemon.record import SourceRecord
from snapcore_fuse.daemon.stock import Stock
from snapcore_fuse.formats import LayerFormat, LayerIndex, load_index
from snapcore_fuse.serve import Served
from snapcore_fuse.settings import Settings
from snapcore_fuse.tables import Table, build, load, save, view

_log = logging.getLogger(__name__)
_UPPER: Final = "fs"


@dataclass(frozen=True, slots=True)
class _Lazy:
    record: SourceRecord
    table: Table
    supply: Supply


class Layers:
    """What one daemon serves, by the ids of snapshots. For one trio run.

    Args:
        places: the state root's.
        stock: what all layers share.
        trees: what the mount shows; changed here.
        forget: has the kernel forget a snapshot that went.
        nursery: where fetches run.
    """

    def __init__(
        self,
        places: Places,
        stock: Stock,
        trees: MutableMapping[int, Served],
        forget: Callable[[int], None],
        nursery: trio.Nursery,
    ) -> None:
        self._places: Final = places
        self._stock: Final = stock
        self._trees: Final = trees
        self._forget: Final = forget
        self._lazy: Final[dict[int, _Lazy]] = {}
        self._nursery: Final = nursery
        self._supplies: Final[dict[str, Supply]] = {}
        self._ahead: Final = Ahead(nursery)
        self._resolved: Final[dict[str, Resolved]] = {}

    def __len__(self) -> int:
        return len(self._lazy)

    @property
    def promised(self) -> bool:
        """Whether somebody has a layer resolved, and will ask for it to be made next."""
        return any(map(os.path.isdir, self._resolved))

    def load(self) -> None:
        """Serve what is on disk, without any network. A layer that is damaged is left out.

        Raises:
            SnapcoreError: the directory of snapshots cannot be read.
        """
        try:
            names = sorted(os.listdir(self._places.snapshots))
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise from_os_error(error, f"snapshots {self._places.snapshots!r}") from error
        # Children may name layers of their parents, which are older.
        for number in sorted(int(name) for name in names if name.isdecimal()):
            files = Files(self._places.snapshot(number))
            if os.path.exists(files.table):
                try:
                    record = SourceRecord.read(files.source)
                    index = _index(files, record, self._stock.limits)
                    self._add(number, record, index, load(files.table))
                except SnapcoreError as error:
                    _log.error("lazy snapshot %d cannot be served: %s", number, error)
        self._mark()

    def configure(self, settings: Settings) -> None:
        """Go by these settings from now on, and drop what went while nobody said so."""
        if self._stock.configure(settings):
            for lazy in self._lazy.values():
                lazy.supply.reopen()
        gone = [number for number in self._lazy if not self._is_there(number)]
        if gone:
            self.remove(gone)

    async def plan(self, request: Plan) -> Outcome:
        """Get a layer's index, for the `resolve` that follows.

        Raises:
            SnapcoreError: the registry cannot be reached or refuses.
        """
        try:
            found = await self._ahead.resolve(self._stock.origin, request.layer, keep=True)
            self._check_only_index(found)
        except NoIndex as reason:
            return Outcome(str(reason))
        return Outcome(format=found.record.format)

    async def resolve(self, request: Resolve) -> Outcome:
        """Get a layer's index and keep it in a snapshot's directory.

        Raises:
            InvalidArgument: the directory is none of this root's.
            SnapcoreError: the registry cannot be reached or refuses; or the disk is full.
        """
        self._check(request.directory)
        try:
            found = await self._ahead.resolve(self._stock.origin, request.layer)
            self._check_only_index(found)
        except NoIndex as reason:
            return Outcome(str(reason))
        await trio.to_thread.run_sync(_keep, Files(request.directory), found)
        for directory in [each for each in self._resolved if not os.path.isdir(each)]:
            del self._resolved[directory]
        self._resolved[request.directory] = found
        return Outcome()

    async def build(self, request: Build) -> Outcome:
        """Make the inodes of a resolved layer over the layers below, and serve them.

        Raises:
            InvalidArgument: the directory is none of this root's.
            NotFound: the layer was not resolved.
            RefusedInput: applying the layer would be refused as well.
            SnapcoreError: a layer below cannot be read; or the disk is full.
        """
        self._check(request.directory)
        resolved = self._resolved.pop(request.directory, None)
        files = Files(request.directory)
        style = WhiteoutStyle(request.style)
        below = [self._below(number) for number in request.parents]
        try:
            record, index, table = await trio.to_thread.run_sync(
                self._make, files, resolved, style, below
            )
        except NotLazy as reason:
            return Outcome(str(reason))
        if request.trial:
            return Outcome()
        self._add(request.id, record, index, table)
        self._mark()
        return Outcome(hides=table.opaque(0))

    def remove(self, ids: Sequence[int]) -> None:
        """Serve snapshots no longer; drop what is cached of layers that nobody has any more."""
        for number in ids:
            lazy = self._lazy.pop(number, None)
            if lazy is None:
                continue
            del self._trees[number]
            self._forget(number)
            lazy.supply.users -= 1
            if not lazy.supply.users:
                del self._supplies[lazy.record.layer.digest]
                lazy.supply.end()
        self._mark()

    def status(self, snapshot: int) -> LayerState:
        """Return how a layer fares.

        Raises:
            NotFound: no such snapshot is served.
        """
        lazy = self._lazy.get(snapshot)
        if lazy is None:
            raise NotFound(f"no lazy snapshot {snapshot} is served")
        return lazy.supply.state()

    def metrics(self) -> str:
        """Return what is counted, as text for Prometheus."""
        layers = [supply.measure() for supply in self._supplies.values()]
        return render(self._stock.meters, layers, len(self), self._stock.cache.stats())

    def _add(self, number: int, record: SourceRecord, index: LayerIndex, table: Table) -> None:
        own = record.layer.digest
        for each in map(str, table.sources):
            if each != own and each not in self._supplies:
                raise NotFound(f"snapshot {number} has files of layer {each}, which is not here")
        supply = self._supplies.get(own)
        if supply is None:
            supply = self._supplies[own] = Supply(self._stock, record, index, self._nursery)
            supply.begin()
        supplies = [self._supplies[str(each)] for each in table.sources]
        supply.users += 1
        self._lazy[number] = _Lazy(record, table, supply)

        async def read(source: int, start: int, size: int, file_end: int) -> bytes:
            return await supplies[source].read(start, size, file_end)

        self._trees[number] = Served(table, read)

    def _check_only_index(self, found: Resolved) -> None:
        supply = self._supplies.get(found.record.layer.digest)
        if supply is not None and supply.record.index != found.record.index:
            # One layer is cut into pieces in one way only, since tables name layers alone.
            raise NoIndex("the same layer is served here by another index")

    def _below(self, number: int) -> Table | str:
        lazy = self._lazy.get(number)
        return lazy.table if lazy else os.path.join(self._places.snapshot(number), _UPPER)

    def _make(
        self,
        files: Files,
        resolved: Resolved | None,
        style: WhiteoutStyle,
        below: Sequence[Table | str],
    ) -> tuple[SourceRecord, LayerIndex, Table]:
        if resolved is not None:
            record, index = resolved.record, resolved.index
        else:
            record = SourceRecord.read(files.source)
            index = _index(files, record, self._stock.limits)
        with ExitStack() as opened:
            layers = [
                each if isinstance(each, Table) else _open(each, style, opened) for each in below
            ]
            made = build(index.entries(), record.descriptor.digest, view(layers), style)
        save(made, files.table)
        return record, index, load(files.table)

    def _is_there(self, number: int) -> bool:
        new = os.path.join(self._places.snapshots, f"new-{number}")
        return os.path.exists(self._places.snapshot(number)) or os.path.exists(new)

    def _check(self, directory: str) -> None:
        parent = os.path.dirname(os.path.abspath(directory))
        if parent != self._places.snapshots or not os.path.isdir(directory):
            raise InvalidArgument(f"{directory!r} is not the directory of a snapshot here")

    def _mark(self) -> None:
        """Let whoever opens the root know whether it needs a daemon."""
        if self._lazy:
            with open(self._places.marker, "wb"):
                return
        with suppress(FileNotFoundError):
            os.unlink(self._places.marker)


def _open(directory: str, style: WhiteoutStyle, opened: ExitStack) -> DiskLayer:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise from_os_error(error, f"layer {directory!r}") from error
    opened.callback(os.close, descriptor)
    return DiskLayer(descriptor, style)


def _keep(files: Files, found: Resolved) -> None:
    """Write a layer's record and index; whole, or the directory is not there."""
    try:
        os.mkdir(files.lazy, 0o700)
        try:
            with open(files.index, "xb") as file:
                file.write(found.data)
            found.record.write(files.source)
        except BaseException:
            shutil.rmtree(files.lazy)
            raise
    except OSError as error:
        raise from_os_error(error, f"lazy layer in {files.directory!r}") from error


def _index(files: Files, record: SourceRecord, limits: Limits) -> LayerIndex:
    try:
        with open(files.index, "rb") as file:
            data = file.read()
    except OSError as error:
        raise from_os_error(error, f"index {files.index!r}") from error
    try:
        kind = LayerFormat(record.format)
    except ValueError as error:
        raise DataLoss(f"index {files.index!r} is of unknown format {record.format!r}") from error
    return load_index(data, kind, record.source, limits)
