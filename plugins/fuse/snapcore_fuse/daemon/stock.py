"""What the layers of one daemon share: documents, cache, registries."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final, Self

import trio

from snapcore.archive import Limits
from snapcore.content import ContentStore
from snapcore.locks import Owner, remove_dead_owners
from snapcore_fuse.cache import ChunkCache
from snapcore_fuse.daemon.metrics import Meters
from snapcore_fuse.daemon.origin import Origin
from snapcore_fuse.daemon.places import Places
from snapcore_fuse.daemon.registries import NoLabels, Registries
from snapcore_fuse.fetch import Slots
from snapcore_fuse.settings import Settings

_DECODERS: Final = 2


class Stock:
    """Everything that is opened once. A context manager, for one trio run.

    Args:
        places: the state root's.
        settings: what the operator chose.
        environment: proxies, and what credential helpers run with.

    Attributes:
        places: the state root's.
        cache: pieces of all layers.
        decoders: counts the threads that decompress.
        limits: budgets of each layer.
        settings: what the operator chose.
        registries: how they are reached.
        origin: finds indexes.
        meters: measure all layers together.

    Raises:
        SnapcoreError: something cannot be opened.
    """

    def __init__(self, places: Places, settings: Settings, environment: Mapping[str, str]) -> None:
        self.places: Final = places
        self._environment: Final = environment
        self._slots: Final[dict[str, Slots]] = {}
        self._resources: Final = ExitStack()
        with ExitStack() as opened:
            locks = os.path.join(places.directory, "lock")
            os.makedirs(locks, mode=0o700, exist_ok=True)
            owner = Owner(places.directory)
            opened.callback(owner.close)
            remove_dead_owners(places.directory)
            self._store: Final = ContentStore(places.content, NoLabels(), locks=locks, owner=owner)
            self.cache: Final = ChunkCache(places.cache, settings.cache_size)
            opened.callback(self.cache.close)
            self._resources.push(opened.pop_all())
        self.limits: Final = Limits()
        self.meters: Final = Meters()
        self.decoders: Final = trio.CapacityLimiter(_DECODERS)
        self.settings = settings
        self.registries = Registries(self._store, settings, environment)
        self.origin = Origin(self.registries, settings, self.limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.registries.close()
        self._resources.close()

    def slots(self, host: str) -> Slots:
        """Return what counts the requests to a registry."""
        return self._slots.setdefault(host, Slots())

    def configure(self, settings: Settings) -> bool:
        """Go by other settings from now on; say whether they are others.

        The size of the cache is that of the settings that the daemon was started with.
        """
        if settings == self.settings:
            return False
        self.registries.close()
        self.settings = settings
        self.registries = Registries(self._store, settings, self._environment)
        self.origin = Origin(self.registries, settings, self.limits)
        return True
