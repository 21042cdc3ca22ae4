"""Registries: resolve references, fetch blobs into the content store, verified and resumable."""

from snapcore.registry.auth import Authorizer as Authorizer
from snapcore.registry.claim import Shelf as Shelf
from snapcore.registry.client import RegistryClient as RegistryClient
from snapcore.registry.credentials import Credentials as Credentials
from snapcore.registry.credentials import CredentialSource as CredentialSource
from snapcore.registry.credentials import DockerConfig as DockerConfig
from snapcore.registry.credentials import GivenCredentials as GivenCredentials
from snapcore.registry.credentials import anonymous as anonymous
from snapcore.registry.download import Progress as Progress
from snapcore.registry.fetch import Fetcher as Fetcher
from snapcore.registry.hosts import DefaultHosts as DefaultHosts
from snapcore.registry.hosts import HostConfig as HostConfig
from snapcore.registry.hosts import HostsResolver as HostsResolver
from snapcore.registry.hosts import Tls as Tls
from snapcore.registry.images.archive import ArchiveSource as ArchiveSource
from snapcore.registry.images.contents import Listener as Listener
from snapcore.registry.images.documents import NamedImage as NamedImage
from snapcore.registry.images.layout import LayoutSource as LayoutSource
from snapcore.registry.proxies import Proxies as Proxies
from snapcore.registry.resolve import Resolver as Resolver
from snapcore.registry.retry import RetryPolicy as RetryPolicy
from snapcore.registry.source import Source as Source
from snapcore.registry.transport import Request as Request
from snapcore.registry.transport import Timeouts as Timeouts
from snapcore.registry.transport import Transport as Transport
