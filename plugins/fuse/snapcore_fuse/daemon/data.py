"""Bytes of lazy layers: from the cache, or from the registry that their puller named."""

from __future__ import annotations

import logging
import os
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from snapcore.errors import DataLoss, SnapcoreError, from_os_error
from snapcore.oci import Digest
from snapcore.registry import RangePatience
from snapcore_fuse.daemon.check import check_index
from snapcore_fuse.daemon.messages import LayerState
from snapcore_fuse.daemon.metrics import LayerMeasure
from snapcore_fuse.daemon.record import SourceRecord
from snapcore_fuse.daemon.stock import Stock
from snapcore_fuse.fetch import (
    FetchOptions,
    FileSink,
    FileSource,
    LayerData,
    Priority,
    RegistrySource,
    complete,
)
from snapcore_fuse.formats import BlobRange, LayerIndex

_log = logging.getLogger(__name__)


class LateSource:
    """A layer's blob at its registry, which is asked for the first time by the first read.

    So a daemon starts without network, and goes by new settings without being restarted.

    Args:
        stock: knows the registries.
        record: the layer.
    """

    def __init__(self, stock: Stock, record: SourceRecord) -> None:
        self._stock: Final = stock
        self._record: Final = record
        self._source: RegistrySource | None = None

    async def read(self, wanted: BlobRange, priority: Priority) -> bytes:
        """Return bytes of the blob; see `BlobSource.read`."""
        begun, meters = trio.current_time(), self._stock.meters
        try:
            return await (await self._opened()).read(wanted, priority)
        except SnapcoreError as error:
            meters.fetch_errors[type(error).__name__] += 1
            raise
        finally:
            meters.fetches.note(trio.current_time() - begun)

    async def _opened(self) -> RegistrySource:
        if self._source is None:
            client = self._stock.registries.client(self._record.layer)
            patience = _patience(self._stock.settings.deadline)
            self._source = RegistrySource(
                await client.ranges(self._record.descriptor, self._record.reference, patience)
            )
        return self._source

    def distrust(self) -> None:
        """Ask somebody else next time."""
        if self._source is not None:
            self._source.distrust()

    def reopen(self) -> None:
        """Go by the settings as they are now."""
        self._source = None


class Supply:
    """The bytes of one layer, for every snapshot that shows some of its files.

    Args:
        stock: what all layers share.
        record: where the layer comes from.
        index: how it is read.
        nursery: where fetches run.

    Attributes:
        record: where the layer comes from.
        users: how many lazy snapshots are of this layer.
    """

    def __init__(
        self, stock: Stock, record: SourceRecord, index: LayerIndex, nursery: trio.Nursery
    ) -> None:
        self.record: Final = record
        self.users = 0
        self._stock: Final = stock
        self._nursery: Final = nursery
        self._scope: Final = trio.CancelScope()
        self._index: Final = index
        self._lie = ""
        self._errors: Final[Counter[str]] = Counter()
        self._origin: Final = LateSource(stock, record)
        self._slots: Final = stock.slots(record.reference.host)
        self._blob: Final = stock.places.blob(Digest.parse(record.layer.digest))
        self._data: Final = LayerData(
            Digest.parse(record.layer.digest),
            Digest.parse(record.index),
            index.reader,
            self._origin,
            stock.cache,
            slots=self._slots,
            nursery=nursery,
            decoders=stock.decoders,
            options=FetchOptions(deadline=stock.settings.deadline),
        )

    async def read(self, start: int, size: int, file_end: int) -> bytes:
        """Return a stretch of the layer's stream; see `LayerData.read`."""
        begun = trio.current_time()
        try:
            if self._lie:
                raise DataLoss(self._lie)
            return await self._data.read(start, size, file_end=file_end)
        except SnapcoreError as error:
            self._errors[type(error).__name__] += 1
            raise
        finally:
            self._stock.meters.reads.note(trio.current_time() - begun)

    def begin(self) -> None:
        """Begin what is fetched without being asked for, if anything is."""
        with suppress(FileNotFoundError), open(self._verdict, encoding="utf-8") as file:
            self._lie = file.read()
        if os.path.exists(self._blob):
            self._data.use(FileSource(self._blob))
        else:
            self._nursery.start_soon(self._run)

    def reopen(self) -> None:
        """Go by the settings as they are now."""
        self._origin.reopen()

    def end(self) -> None:
        """Stop fetching, and delete what is here of the layer: nobody has it any more."""
        self._scope.cancel()
        self._stock.cache.forget(Digest.parse(self.record.layer.digest))
        FileSink(self._blob).discard()
        for path in (self._blob, self._verdict):
            with suppress(FileNotFoundError):
                os.unlink(path)

    def state(self) -> LayerState:
        """Return how the layer fares."""
        status = self._data.status()
        return LayerState(
            format=self.record.format,
            size=self.record.size,
            fetched=status.fetched,
            served=status.served,
            wasted=status.wasted,
            requests=status.requests,
            hits=status.hits,
            misses=status.misses,
            complete=status.complete,
            error=self._lie or status.last_error,
        )

    def measure(self) -> LayerMeasure:
        """Return what is counted of the layer."""
        state = self.state()
        completed = state.size if state.complete else FileSink(self._blob).offset
        return LayerMeasure(self.record.layer.digest, state, completed, dict(self._errors))

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._data.prefetch(self._index.prefetch)
                if self._stock.settings.complete:
                    await self._complete()
        except SnapcoreError as error:
            # What is read goes on being fetched piece by piece.
            _log.warning("layer %s is not completed: %s", self.record.layer.digest, error)
            self._data.tally.failed(error)
        except Exception:  # noqa: BLE001 - one layer must not end what all mounts live on
            _log.exception("layer %s is not completed", self.record.layer.digest)

    async def _complete(self) -> None:
        try:
            os.makedirs(os.path.dirname(self._blob), mode=0o700, exist_ok=True)
        except OSError as error:
            raise from_os_error(error, f"blob {self._blob!r}") from error
        source = self.record.source
        sink = FileSink(self._blob)
        await complete(self._origin, self._slots, source, sink, self._data.tally)
        check = partial(check_index, self._index, self._blob, source, self._stock.limits)
        try:
            await trio.to_thread.run_sync(check)
        except DataLoss as error:
            self._condemn(str(error))
            raise
        self._data.use(FileSource(self._blob))

    @property
    def _verdict(self) -> str:
        return f"{self._blob}.lies"

    def _condemn(self, lie: str) -> None:
        """Give nobody bytes of this layer any more, not after a restart either."""
        self._lie = lie
        self._stock.cache.forget(Digest.parse(self.record.layer.digest))
        try:
            with open(self._verdict, "w", encoding="utf-8") as file:
                file.write(lie)
        except OSError as error:
            raise from_os_error(error, f"verdict {self._verdict!r}") from error


def _patience(deadline: float) -> RangePatience:
    """Return how long one read waits: short enough in silence that another try has its time."""
    return RangePatience(deadline, min(RangePatience().stall, deadline / 4))
