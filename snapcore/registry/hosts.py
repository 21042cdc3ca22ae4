"""From the host in a reference to how its registry is reached."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final, Protocol

from snapcore.errors import InvalidArgument
from snapcore.oci.reference import DEFAULT_HOST

_ENDPOINTS: Final = {DEFAULT_HOST: "registry-1.docker.io"}
"""References to Docker Hub are served by another host: a public interface fact."""


@dataclass(frozen=True, slots=True)
class Tls:
    """What is trusted when a connection is made.

    Attributes:
        ca_file: PEM file of authorities trusted besides the system's, "" for none.
        skip_verify: accept any certificate. Only when the operator asked for it.
    """

    ca_file: str = ""
    skip_verify: bool = False

    def context(self) -> ssl.SSLContext:
        """Build the TLS context.

        Raises:
            InvalidArgument: `ca_file` cannot be read or holds no certificate.
        """
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ca_file:
            try:
                context.load_verify_locations(cafile=self.ca_file)
            except OSError as error:
                raise InvalidArgument(
                    f"cannot use the authorities in {self.ca_file!r}: {error.strerror or error}"
                ) from error
        if self.skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class HostConfig:
    """One registry endpoint.

    Attributes:
        name: the host as references write it; keys credentials and labels.
        endpoint: `host[:port]` that is connected to.
        plain_http: speak HTTP without TLS.
        tls: trust settings, unused with `plain_http`.
    """

    name: str
    endpoint: str
    plain_http: bool = False
    tls: Tls = field(default_factory=Tls)

    @property
    def base_url(self) -> str:
        """The URL that paths of the distribution API are appended to, without a final slash."""
        return f"{'http' if self.plain_http else 'https'}://{self.endpoint}"


class HostsResolver(Protocol):
    """Decides how a reference's host is reached."""

    def __call__(self, host: str) -> HostConfig:
        """Return the endpoint for `host`, written `name[:port]` as in references."""


@dataclass(frozen=True, slots=True)
class DefaultHosts:
    """The resolver without a configuration directory: one endpoint a host.

    Loopback hosts get no exception: plain HTTP is spoken only when it is asked for.

    Attributes:
        plain_http: speak plain HTTP with every host but Docker Hub's.
        tls: trust settings for every host.
    """

    plain_http: bool = False
    tls: Tls = field(default_factory=Tls)

    def __call__(self, host: str) -> HostConfig:
        """Return the endpoint for `host`."""
        endpoint = _ENDPOINTS.get(host, host)
        plain = self.plain_http and host not in _ENDPOINTS
        return HostConfig(host, endpoint, plain, self.tls)
