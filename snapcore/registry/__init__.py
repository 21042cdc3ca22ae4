"""Registries: resolve references, fetch blobs into the content store, verified and resumable.

Names are loaded on first use: what speaks to no registry must not pay for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapcore.lazily import on_first_use

if TYPE_CHECKING:
    from snapcore.registry.auth import Authorizer as Authorizer
    from snapcore.registry.breaker import PAUSE_SECONDS as PAUSE_SECONDS
    from snapcore.registry.claim import Shelf as Shelf
    from snapcore.registry.client import RegistryClient as RegistryClient
    from snapcore.registry.credentials import Credentials as Credentials
    from snapcore.registry.credentials import CredentialSource as CredentialSource
    from snapcore.registry.credentials import DockerConfig as DockerConfig
    from snapcore.registry.credentials import GivenCredentials as GivenCredentials
    from snapcore.registry.credentials import anonymous as anonymous
    from snapcore.registry.download import Progress as Progress
    from snapcore.registry.fetch import Fetcher as Fetcher
    from snapcore.registry.hosts import Capability as Capability
    from snapcore.registry.hosts import ClientCertificate as ClientCertificate
    from snapcore.registry.hosts import DefaultHosts as DefaultHosts
    from snapcore.registry.hosts import HostConfig as HostConfig
    from snapcore.registry.hosts import HostsResolver as HostsResolver
    from snapcore.registry.hosts import Tls as Tls
    from snapcore.registry.hostsdir import HostsDirectories as HostsDirectories
    from snapcore.registry.images.archive import ArchiveSource as ArchiveSource
    from snapcore.registry.images.contents import Listener as Listener
    from snapcore.registry.images.documents import NamedImage as NamedImage
    from snapcore.registry.images.export import ArchiveKind as ArchiveKind
    from snapcore.registry.images.export import Export as Export
    from snapcore.registry.images.intake import Intake as Intake
    from snapcore.registry.images.layout import LayoutSource as LayoutSource
    from snapcore.registry.images.sinks import Sink as Sink
    from snapcore.registry.images.sinks import new_directory as new_directory
    from snapcore.registry.images.sinks import new_file as new_file
    from snapcore.registry.images.sinks import new_tar as new_tar
    from snapcore.registry.images.sinks import open_tar as open_tar
    from snapcore.registry.interrupt import run_blocking as run_blocking
    from snapcore.registry.network import EVERYWHERE as EVERYWHERE
    from snapcore.registry.network import PUBLIC_ONLY as PUBLIC_ONLY
    from snapcore.registry.network import everywhere as everywhere
    from snapcore.registry.network import same_network as same_network
    from snapcore.registry.outgoing import Outgoing as Outgoing
    from snapcore.registry.policy import ReachSettings as ReachSettings
    from snapcore.registry.policy import configured_follow as configured_follow
    from snapcore.registry.policy import configured_hosts as configured_hosts
    from snapcore.registry.proxies import Proxies as Proxies
    from snapcore.registry.push import PushListener as PushListener
    from snapcore.registry.ranges import BlobRanges as BlobRanges
    from snapcore.registry.ranges import RangePatience as RangePatience
    from snapcore.registry.referrers import Artifact as Artifact
    from snapcore.registry.retry import RetryPolicy as RetryPolicy
    from snapcore.registry.source import Source as Source
    from snapcore.registry.transport import Request as Request
    from snapcore.registry.transport import Timeouts as Timeouts
    from snapcore.registry.transport import Transport as Transport

__getattr__ = on_first_use(
    __name__,
    {
        "Authorizer": "auth",
        "PAUSE_SECONDS": "breaker",
        "Shelf": "claim",
        "RegistryClient": "client",
        "Credentials": "credentials",
        "CredentialSource": "credentials",
        "DockerConfig": "credentials",
        "GivenCredentials": "credentials",
        "anonymous": "credentials",
        "Progress": "download",
        "Fetcher": "fetch",
        "Capability": "hosts",
        "ClientCertificate": "hosts",
        "DefaultHosts": "hosts",
        "HostConfig": "hosts",
        "HostsResolver": "hosts",
        "Tls": "hosts",
        "HostsDirectories": "hostsdir",
        "ArchiveSource": "images.archive",
        "Listener": "images.contents",
        "NamedImage": "images.documents",
        "ArchiveKind": "images.export",
        "Export": "images.export",
        "Intake": "images.intake",
        "LayoutSource": "images.layout",
        "Sink": "images.sinks",
        "new_directory": "images.sinks",
        "new_file": "images.sinks",
        "new_tar": "images.sinks",
        "open_tar": "images.sinks",
        "run_blocking": "interrupt",
        "EVERYWHERE": "network",
        "PUBLIC_ONLY": "network",
        "everywhere": "network",
        "same_network": "network",
        "Outgoing": "outgoing",
        "ReachSettings": "policy",
        "configured_follow": "policy",
        "configured_hosts": "policy",
        "Proxies": "proxies",
        "PushListener": "push",
        "BlobRanges": "ranges",
        "RangePatience": "ranges",
        "Artifact": "referrers",
        "RetryPolicy": "retry",
        "Source": "source",
        "Request": "transport",
        "Timeouts": "transport",
        "Transport": "transport",
    },
)
