"""Indexes of layers, fetched for who asks, and ahead for those that will be asked for next."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec
import trio

from snapcore.errors import ContractError, SnapcoreError
from snapcore.oci import Digest
from snapcore_fuse.daemon.messages import Layer
from snapcore_fuse.daemon.origin import NoIndex, Origin
from snapcore_fuse.daemon.record import SourceRecord
from snapcore_fuse.formats import LayerIndex

_log = logging.getLogger(__name__)
_MOST_AHEAD: Final = 64


@dataclass(frozen=True, slots=True)
class Resolved:
    """A layer whose index is here.

    Attributes:
        record: where it comes from.
        index: what it holds.
        data: the index as it is kept.
    """

    record: SourceRecord
    index: LayerIndex
    data: bytes


_Result: TypeAlias = Resolved | NoIndex | SnapcoreError


class _Pending:
    """One that is under way, for whoever waits for it."""

    __slots__ = ("done", "result")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.result: _Result | None = None


class Ahead:
    """Resolves layers, each once at a time. For one trio run.

    Args:
        nursery: where all work runs, so that who waits may go away and another come.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery: Final = nursery
        self._pending: Final[dict[Layer, _Pending]] = {}

    async def resolve(self, origin: Origin, layer: Layer, *, keep: bool = False) -> Resolved:
        """Return a layer's index, and begin with those of the layers that follow.

        Args:
            origin: finds indexes.
            layer: which.
            keep: keep the index for who asks next.

        Raises:
            NoIndex: it cannot be lazy.
            SnapcoreError: as `Origin.index`.
        """
        own = msgspec.structs.replace(layer, following=())
        pending = self._begin(origin, own)
        if layer.following:
            self._nursery.start_soon(self._begin_following, origin, layer)
        await pending.done.wait()
        # What failed may work for who asks next: the registry is back, the password is right.
        if not (keep and isinstance(pending.result, Resolved)):
            self._pending.pop(own, None)
        if isinstance(pending.result, Resolved):
            return pending.result
        assert pending.result is not None
        raise pending.result

    async def _begin_following(self, origin: Origin, layer: Layer) -> None:
        with suppress(NoIndex, SnapcoreError):
            diff_ids = await origin.diff_ids(layer)
            for digest in layer.following:
                if digest in diff_ids:
                    self._begin(
                        origin,
                        msgspec.structs.replace(
                            layer, digest=digest, diff_id=diff_ids[digest], following=()
                        ),
                    )

    def _begin(self, origin: Origin, layer: Layer) -> _Pending:
        pending = self._pending.get(layer)
        if pending is None:
            # Those that nobody has asked for go first: their puller has gone away.
            while len(self._pending) >= _MOST_AHEAD:
                del self._pending[next(iter(self._pending))]
            pending = self._pending[layer] = _Pending()
            self._nursery.start_soon(self._run, origin, layer, pending)
        return pending

    async def _run(self, origin: Origin, layer: Layer, pending: _Pending) -> None:
        try:
            pending.result = await _resolved(origin, layer)
        except (NoIndex, SnapcoreError) as error:
            pending.result = error
        except Exception as error:  # noqa: BLE001 - one layer must not end what all mounts live on
            _log.exception("layer %s", layer.digest)
            pending.result = ContractError(f"layer {layer.digest}: {type(error).__name__}")
        pending.done.set()


async def _resolved(origin: Origin, layer: Layer) -> Resolved:
    blob, index, data = await origin.index(layer)
    record = SourceRecord(
        layer=layer,
        media_type=blob.media_type,
        size=blob.size,
        format=index.format,
        index=str(Digest.of(data)),
    )
    return Resolved(record, index, data)
