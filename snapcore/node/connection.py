"""From a node's configuration and one pull's flags to a registry client."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from snapcore.config import RegistryConfig
from snapcore.content import ContentStore
from snapcore.registry import (
    Credentials,
    CredentialSource,
    DockerConfig,
    GivenCredentials,
    Proxies,
    RegistryClient,
    Timeouts,
    Transport,
    anonymous,
    configured_follow,
    configured_hosts,
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


def hosts_problems(config: RegistryConfig) -> tuple[str, ...]:
    """Check the directories of `registry.config_path`; return a message for each bad one."""
    return tuple(configured_hosts(config).problems())


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
        follow=configured_follow(config),
    )
    return RegistryClient(
        store,
        hosts=configured_hosts(
            config,
            plain_http=host if access.plain_http else "",
            insecure=host if access.skip_verify else "",
        ),
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
