"""How registries are reached, as an operator's settings say: one reading for all who have some."""

from __future__ import annotations

from typing import Protocol

from snapcore.registry.hosts import DefaultHosts, HostConfig, Tls
from snapcore.registry.hostsdir import HostsDirectories
from snapcore.registry.network import EVERYWHERE, PUBLIC_ONLY, Follow, everywhere, same_network


class ReachSettings(Protocol):
    """Settings that say how registries are reached."""

    @property
    def config_path(self) -> tuple[str, ...]:
        """Directories with a `hosts.toml` for each registry, the first one wins."""

    @property
    def plain_http(self) -> tuple[str, ...]:
        """Hosts (`name[:port]`) that are spoken to without TLS."""

    @property
    def insecure(self) -> tuple[str, ...]:
        """Hosts whose certificate is not verified."""

    @property
    def ca(self) -> str:
        """PEM file of authorities that are trusted besides the system's, "" for none."""

    @property
    def private_networks(self) -> str:
        """May be there: all (`allow`), what one there names (`same-as-registry`), or none."""


def configured_hosts(
    settings: ReachSettings, *, plain_http: str = "", insecure: str = ""
) -> HostsDirectories:
    """Return how each host is reached: the hosts directories, over what the other settings say.

    Args:
        settings: the operator's.
        plain_http: one more host that is spoken to without TLS.
        insecure: one more host whose certificate is not verified.
    """
    authorities = (settings.ca,) if settings.ca else ()
    reach = PUBLIC_ONLY if settings.private_networks == "refuse" else EVERYWHERE

    def endpoint(host: str) -> HostConfig:
        plain = host in (plain_http, *settings.plain_http)
        tls = Tls(authorities, host in (insecure, *settings.insecure))
        return DefaultHosts(plain, tls, reach).endpoint(host)

    return HostsDirectories(settings.config_path, endpoint)


def configured_follow(settings: ReachSettings) -> Follow:
    """Return where a registry's answers may send us."""
    return everywhere if settings.private_networks == "allow" else same_network
