"""From a node's configuration and one pull's flags to a registry client."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from snapcore.config import RegistryConfig
from snapcore.content import ContentStore
from snapcore.registry import (
    EVERYWHERE,
    PUBLIC_ONLY,
    Credentials,
    CredentialSource,
    DefaultHosts,
    DockerConfig,
    GivenCredentials,
    HostConfig,
    HostsDirectories,
    Proxies,
    RegistryClient,
    Timeouts,
    Tls,
    Transport,
    anonymous,
    everywhere,
    same_network,
)


class Access(Protocol):
    """How one command reaches its registry; the options of pull and of push both say so."""

    @property
    def plain_http(self) -> bool:
        """Whether to speak without TLS."""

    @property
    def skip_verify(self) -> bool:
        """Whether any certificate will do."""

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password, None for the configured ones."""


@dataclass(frozen=True, slots=True)
class ConfiguredHosts:
    """How each host is reached: what the configuration says, and this pull's flags on top.

    Attributes:
        config: the node's registry settings.
        host: the registry that the flags are about.
        plain_http: speak plain HTTP with it.
        skip_verify: accept any certificate of it.
    """

    config: RegistryConfig
    host: str
    plain_http: bool
    skip_verify: bool

    def __call__(self, host: str) -> tuple[HostConfig, ...]:
        """Return the endpoints for a host: those of the hosts directories, over the rest."""
        return self.directories()(host)

    def directories(self) -> HostsDirectories:
        """Return the hosts directories, over what the other settings say."""
        return HostsDirectories(self.config.config_path, self._endpoint)

    def _endpoint(self, host: str) -> HostConfig:
        flagged = host == self.host
        skip = (flagged and self.skip_verify) or host in self.config.insecure
        plain = (flagged and self.plain_http) or host in self.config.plain_http
        authorities = (self.config.ca,) if self.config.ca else ()
        reach = PUBLIC_ONLY if self.config.private_networks == "refuse" else EVERYWHERE
        return DefaultHosts(plain, Tls(authorities, skip), reach).endpoint(host)


def hosts_problems(config: RegistryConfig) -> tuple[str, ...]:
    """Check the directories of `registry.config_path`; return a message for each bad one."""
    hosts = ConfiguredHosts(config, "", plain_http=False, skip_verify=False)
    return tuple(hosts.directories().problems())


def registry_client(
    store: ContentStore,
    config: RegistryConfig,
    host: str,
    access: Access,
    environment: Mapping[str, str],
) -> RegistryClient:
    """Build the client of one pull or push.

    Args:
        store: where blobs go.
        config: the node's registry settings.
        host: the registry; the only one that given credentials are shown to.
        access: the command's flags.
        environment: proxies, and what credential helpers run with.

    Raises:
        InvalidArgument: the docker config or a proxy setting is malformed.
        PermissionDenied: the docker config cannot be read.
    """
    transport = Transport(
        proxies=Proxies.from_environment(environment),
        timeouts=Timeouts(connect=config.connect_timeout, read=config.read_timeout),
        max_connections=config.max_per_host,
        follow=everywhere if config.private_networks == "allow" else same_network,
    )
    return RegistryClient(
        store,
        hosts=ConfiguredHosts(config, host, access.plain_http, access.skip_verify),
        credentials=_credentials(config, host, access, environment),
        transport=transport,
        requests_per_host=config.max_per_host,
    )


def _credentials(
    config: RegistryConfig, host: str, access: Access, environment: Mapping[str, str]
) -> CredentialSource:
    if access.credentials is not None:
        user, password = access.credentials
        return GivenCredentials(host, Credentials(user, password))
    if not config.docker_config or not os.path.exists(config.docker_config):
        return anonymous
    return DockerConfig.read(config.docker_config, environment)
