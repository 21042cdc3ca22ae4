"""From the host in a reference to the endpoints that serve it."""

from __future__ import annotations

import ssl
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from snapcore.errors import InvalidArgument
from snapcore.oci.reference import DEFAULT_HOST
from snapcore.registry.network import EVERYWHERE, Reach

_ENDPOINTS: Final = {DEFAULT_HOST: "registry-1.docker.io"}
"""References to Docker Hub are served by another host: a public interface fact."""


class Capability(StrEnum):
    """What a host is trusted with; containerd's words."""

    PULL = "pull"
    RESOLVE = "resolve"
    PUSH = "push"


ALL_CAPABILITIES: Final = frozenset(Capability)
Headers: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What we prove ourselves with in a TLS handshake.

    Attributes:
        certificate: PEM file with the certificate, and those that vouch for it.
        key: PEM file with its private key, "" if it is in the same file.
    """

    certificate: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Tls:
    """What is trusted when a connection is made, and what is shown.

    Attributes:
        ca_files: PEM files of authorities trusted besides the system's.
        skip_verify: accept any certificate. Only when the operator asked for it.
        clients: our own certificates; of those with one kind of key the first is used.
    """

    ca_files: tuple[str, ...] = ()
    skip_verify: bool = False
    clients: tuple[ClientCertificate, ...] = ()

    def context(self) -> ssl.SSLContext:
        """Build the TLS context.

        Raises:
            InvalidArgument: a file cannot be read or does not hold what it should.
        """
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        for path in self.ca_files:
            try:
                context.load_verify_locations(cafile=path)
            except OSError as error:
                raise InvalidArgument(
                    f"cannot use the authorities in {path!r}: {error.strerror or error}"
                ) from error
        # OpenSSL keeps one certificate for each kind of key: the last one loaded.
        for client in reversed(self.clients):
            _load_client(context, client)
        if self.skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def for_others(self) -> Tls:
        """Return what is used with other hosts that the registry names.

        The trust is the same, but our certificate is for the registry alone.
        """
        return replace(self, clients=()) if self.clients else self


def _load_client(context: ssl.SSLContext, client: ClientCertificate) -> None:
    try:
        # Without a password of ours, OpenSSL would ask the terminal for one.
        context.load_cert_chain(client.certificate, client.key or None, password="")
    except OSError as error:
        where = " and ".join(repr(path) for path in (client.certificate, client.key) if path)
        raise InvalidArgument(
            f"cannot use the client certificate in {where}: {error.strerror or error};"
            " want PEM, with a key that is not encrypted"
        ) from error


@dataclass(frozen=True, slots=True)
class HostConfig:
    """One endpoint that serves a registry's repositories: the registry itself, or a mirror.

    Attributes:
        name: keys credentials: the registry's host as references write it, or a mirror's own
            `host[:port]`.
        endpoint: `host[:port]` that is connected to.
        plain_http: speak HTTP without TLS.
        tls: trust settings, unused with `plain_http`.
        path: where the distribution API begins, without a final slash.
        capabilities: what it is trusted with.
        namespace: for a mirror, the registry's host as references write it, told to the mirror as
            `ns`; "" for the registry itself.
        headers: sent with each request to it, and to nobody else; may hold secrets.
        connect_timeout: seconds to wait for a connection, None for the transport's.
        proxy: URL of the proxy to it, None to choose by the environment.
        reach: the networks it may be in.
    """

    name: str
    endpoint: str
    plain_http: bool = False
    tls: Tls = field(default_factory=Tls)
    path: str = "/v2"
    capabilities: frozenset[Capability] = ALL_CAPABILITIES
    namespace: str = ""
    headers: Headers = field(default=(), repr=False)
    connect_timeout: float | None = None
    proxy: str | None = field(default=None, repr=False)
    reach: Reach = EVERYWHERE

    @property
    def base_url(self) -> str:
        """Scheme and endpoint, without a final slash."""
        return f"{'http' if self.plain_http else 'https'}://{self.endpoint}"

    @property
    def api_url(self) -> str:
        """The URL that paths of the distribution API are appended to, without a final slash."""
        return self.base_url + self.path


class HostsResolver(Protocol):
    """Decides how a reference's host is reached."""

    def __call__(self, host: str) -> tuple[HostConfig, ...]:
        """Return the endpoints for `host`, written `name[:port]` as in references.

        They are asked in this order; the registry itself is the last one. Called in a worker
        thread; may read files.
        """


@dataclass(frozen=True, slots=True)
class DefaultHosts:
    """The resolver without a configuration directory: one endpoint a host.

    Loopback hosts get no exception: plain HTTP is spoken only when it is asked for.

    Attributes:
        plain_http: speak plain HTTP with every host but Docker Hub's.
        tls: trust settings for every host.
        reach: the networks that hosts may be in.
    """

    plain_http: bool = False
    tls: Tls = field(default_factory=Tls)
    reach: Reach = EVERYWHERE

    def __call__(self, host: str) -> tuple[HostConfig, ...]:
        """Return the endpoint for `host`."""
        return (self.endpoint(host),)

    def endpoint(self, host: str) -> HostConfig:
        """Return the one endpoint for `host`."""
        plain = self.plain_http and host not in _ENDPOINTS
        return HostConfig(host, endpoint_of(host), plain, self.tls, reach=self.reach)


def endpoint_of(host: str) -> str:
    """Return the `host[:port]` that serves a reference's host."""
    return _ENDPOINTS.get(host, host)


def capable(
    hosts: Collection[HostConfig], needed: Collection[Capability]
) -> tuple[HostConfig, ...]:
    """Return the hosts that are trusted with all that is needed, in their order."""
    return tuple(host for host in hosts if host.capabilities.issuperset(needed))
