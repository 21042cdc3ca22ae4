"""How the daemon reaches registries: as the settings and the puller of each image say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

from snapcore.content import ContentStore, LabelRecord
from snapcore.errors import NotFound
from snapcore.oci import Descriptor, Digest, Reference
from snapcore.registry import (
    PAUSE_SECONDS,
    Credentials,
    DockerConfig,
    Proxies,
    RegistryClient,
    Transport,
    configured_follow,
    configured_hosts,
)
from snapcore_fuse.daemon.messages import Layer
from snapcore_fuse.settings import Settings


class Registries:
    """The clients of one daemon. For one trio run.

    Args:
        store: where documents go.
        settings: what the operator chose.
        environment: proxies, and what credential helpers run with.
    """

    def __init__(
        self, store: ContentStore, settings: Settings, environment: Mapping[str, str]
    ) -> None:
        self._store: Final = store
        self._settings: Final = settings
        self._environment: Final = environment
        self._clients: Final[dict[tuple[str, str], RegistryClient]] = {}

    def client(self, layer: Layer) -> RegistryClient:
        """Return the client for a layer's registry.

        Raises:
            InvalidArgument: a proxy setting is malformed.
        """
        host = Reference.parse(layer.image).host
        key = (host if layer.plain_http else "", host if layer.insecure else "")
        if key not in self._clients:
            self._clients[key] = self._make(*key)
        return self._clients[key]

    def document(self, descriptor: Descriptor, most: int) -> bytes:
        """Return a blob of at most `most` bytes that was fetched, verified.

        Raises:
            NotFound: it was not.
            RefusedInput: it is larger.
        """
        return self._store.read_blob(descriptor, most)

    def close(self) -> None:
        """Close idle connections."""
        while self._clients:
            self._clients.popitem()[1].close()

    def _make(self, plain_http: str, insecure: str) -> RegistryClient:
        settings = self._settings
        paths = [path for path in (settings.secrets, settings.docker_config) if path]
        transport = Transport(
            proxies=Proxies.from_environment(self._environment),
            follow=configured_follow(settings),
        )
        return RegistryClient(
            self._store,
            hosts=configured_hosts(settings, plain_http=plain_http, insecure=insecure),
            credentials=LateCredentials(paths, self._environment),
            transport=transport,
            # Who waits for a read shall not be refused for longer than a read may take.
            pause=min(PAUSE_SECONDS, settings.deadline),
        )


class LateCredentials:
    """Credentials of docker config files as they are when a token or password is needed.

    A layer is read for weeks, and passwords change meanwhile.

    Args:
        paths: the files; the first one that knows a host wins, and none needs to be there.
        environment: what credential helpers run with.
    """

    def __init__(self, paths: Sequence[str], environment: Mapping[str, str]) -> None:
        self._paths: Final = tuple(paths)
        self._environment: Final = environment

    def __call__(self, host: str) -> Credentials | None:
        """Return the credentials for a host; see `CredentialSource`.

        Raises:
            InvalidArgument: a file is malformed.
            PermissionDenied: a file cannot be read, or a helper failed.
        """
        for path in self._paths:
            with suppress(NotFound):
                found = DockerConfig.read(path, self._environment)(host)
                if found is not None:
                    return found
        return None


class NoLabels:
    """A label store that keeps nothing: the daemon's documents need no labels."""

    def get(self, digest: Digest) -> LabelRecord | None:
        """Know nothing."""
        del digest
        return None

    def create(self, digest: Digest, size: int, labels: Mapping[str, str]) -> LabelRecord:
        """Keep nothing."""
        del digest, size
        return LabelRecord(dict(labels), 0, 0)

    def replace(self, digest: Digest, labels: Mapping[str, str]) -> LabelRecord:
        """Keep nothing."""
        return self.create(digest, 0, labels)

    def change(self, digest: Digest, changes: Mapping[str, str]) -> LabelRecord:
        """Keep nothing."""
        return self.create(digest, 0, changes)

    def delete(self, digest: Digest) -> None:
        """Have nothing to delete."""
        del digest

    def digests(self) -> Iterator[Digest]:
        """Yield nothing."""
        return iter(())
