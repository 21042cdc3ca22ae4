"""One repository of one registry, as the blocking code sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from snapcore.errors import SnapcoreError
from snapcore.oci import Descriptor, Digest, is_index, is_manifest
from snapcore.oci.descriptor import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from snapcore.registry.auth import Authorizer, pull_scope
from snapcore.registry.failures import from_status, retry_after
from snapcore.registry.hosts import HostConfig
from snapcore.registry.response import Response
from snapcore.registry.transport import Request

ACCEPT: Final = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST))
"""The document types we read; a registry that converts for old clients must not."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where to read from.

    Attributes:
        host: the registry, or a mirror of it.
        repository: the path below it.
        authorizer: sends the requests.
    """

    host: HostConfig
    repository: str
    authorizer: Authorizer = field(repr=False)

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}"

    @property
    def registry(self) -> str:
        """The registry's host as references write it, whoever serves it."""
        return self.host.namespace or self.host.name

    def endpoint(self, path: str) -> str:
        """Return the URL of something in the repository, such as `blobs/uploads/`."""
        query = f"?ns={quote(self.host.namespace, safe=':')}" if self.host.namespace else ""
        return f"{self.host.api_url}/{self.repository}/{path}{query}"

    def manifest_url(self, name: str) -> str:
        """Return the URL of a manifest, by tag or digest (distribution-spec, "Pull")."""
        return self.endpoint(f"manifests/{name}")

    def blob_url(self, digest: Digest) -> str:
        """Return the URL of a blob (distribution-spec, "Pull")."""
        return self.endpoint(f"blobs/{digest}")

    def url(self, descriptor: Descriptor) -> str:
        """Return where the registry keeps what `descriptor` names.

        Only ever below the registry: the descriptor's own `urls` are an attacker's way to send
        us elsewhere (CVE-2020-15157) and are not looked at.
        """
        if is_document(descriptor):
            return self.manifest_url(str(descriptor.digest))
        return self.blob_url(descriptor.digest)

    def send(self, method: str, url: str, headers: dict[str, str]) -> Response:
        """Send an authorised read request; errors as `Authorizer.send`."""
        request = Request.to_host(self.host, method, url, headers)
        return self.authorizer.send(request, self.host, pull_scope(self.repository))


def is_document(descriptor: Descriptor) -> bool:
    """Tell whether a registry serves this as a manifest, not as a blob."""
    return is_index(descriptor.media_type) or is_manifest(descriptor.media_type)


def refusal(response: Response, what: str) -> SnapcoreError:
    """Return the error for a response whose status is not a success."""
    wait = retry_after(response.headers.get("Retry-After", ""))
    return from_status(response.status, what, response.first_bytes(), wait)


def media_type_of(response: Response) -> str:
    """Return the response's media type without parameters, in lower case; "" if absent."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
