"""Artifacts that refer to an image: found, and published, with or without the registry's help.

distribution-spec 1.1, "Listing Referrers", "Pushing Manifests with Subject" and "Referrers Tag
Schema": where a registry does not keep track itself, clients keep an index under a tag.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar
from urllib.parse import urlencode, urljoin

import msgspec
import trio

from snapcore.errors import RefusedInput, Unavailable
from snapcore.oci import Descriptor, Digest, Index, parse_document
from snapcore.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES
from snapcore.registry.interrupt import run_blocking
from snapcore.registry.push import MAX_STEPS, put_document
from snapcore.registry.response import Response
from snapcore.registry.retry import RetryPolicy
from snapcore.registry.source import Source, media_type_of, refusal
from snapcore.registry.transport import origin
from snapcore.registry.upload import Target, Upload

MAX_PAGES: Final = 20
MAX_REFERRERS: Final = 1000
"""More artifacts of one image are not read: whoever may push can add any number."""
EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
EMPTY: Final = b"{}"
_TRIES: Final = 4
_NO_API: Final = frozenset({404, 405})
_NEXT: Final = re.compile(r'<([^<>]{1,2000})>[^,<>]*;\s*rel="?next"?(?=[\s;,]|\Z)')
_T = TypeVar("_T")


class _Item(msgspec.Struct, rename="camel", omit_defaults=True):
    media_type: str
    digest: str
    size: int
    artifact_type: str = ""
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, descriptor: Descriptor) -> _Item:
        return cls(
            descriptor.media_type,
            str(descriptor.digest),
            descriptor.size,
            descriptor.artifact_type,
            descriptor.annotations,
        )


class _Manifest(msgspec.Struct, rename="camel"):
    schema_version: int
    media_type: str
    artifact_type: str
    config: _Item
    layers: list[_Item]
    subject: _Item
    annotations: Mapping[str, str]


class _Index(msgspec.Struct, rename="camel"):
    schema_version: int
    media_type: str
    manifests: list[_Item]


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something that is published about an image.

    Attributes:
        artifact_type: media type that says what it is.
        subject: the manifest or index that it is about.
        blobs: its content, each with its bytes.
        annotations: free text.
    """

    artifact_type: str
    subject: Descriptor
    blobs: tuple[tuple[Descriptor, bytes], ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def manifest(self) -> bytes:
        """Its manifest; the same artifact always gives the same bytes."""
        document = _Manifest(
            2,
            OCI_MANIFEST,
            self.artifact_type,
            _Item(EMPTY_TYPE, str(Digest.of(EMPTY)), len(EMPTY)),
            [_Item.of(blob) for blob, _ in self.blobs],
            _Item.of(self.subject),
            dict(sorted(self.annotations.items())),
        )
        return msgspec.json.encode(document)

    @property
    def descriptor(self) -> Descriptor:
        """What its manifest is called."""
        data = self.manifest
        return Descriptor(
            OCI_MANIFEST,
            Digest.of(data),
            len(data),
            self.annotations,
            artifact_type=self.artifact_type,
        )


def fallback_tag(subject: Digest) -> str:
    """Return the tag of the index that clients keep of what refers to `subject`."""
    return f"{subject.algorithm[:32]}-{subject.hex[:64]}"


def list_referrers(source: Source, subject: Digest, artifact_type: str) -> tuple[Descriptor, ...]:
    """Ask one host what refers to a manifest or index. Blocks.

    Args:
        source: the repository there.
        subject: digest of the manifest or index, which need not exist.
        artifact_type: leave all others out; "" for every type.

    Returns:
        Descriptors of manifests, in the host's order. Nothing vouches for them but that host.

    Raises:
        RefusedInput: the answer is malformed or has no end.
        PermissionDenied, Unavailable: the host's answer.
    """
    found = _by_api(source, subject, artifact_type)
    if found is None:
        found = _by_tag(source, subject)
    if len(found) > MAX_REFERRERS:
        raise RefusedInput(f"{str(subject)!r} has more than {MAX_REFERRERS} referrers")
    return tuple(item for item in found if artifact_type in ("", item.artifact_type))


def _by_api(source: Source, subject: Digest, artifact_type: str) -> Sequence[Descriptor] | None:
    """Return what the registry knows, None if it does not keep track."""
    what = f"referrers of {str(subject)!r} in {str(source)!r}"
    url = source.endpoint(f"referrers/{subject}")
    if artifact_type:
        url += f"{'&' if '?' in url else '?'}{urlencode({'artifactType': artifact_type})}"
    found: list[Descriptor] = []
    for page in range(MAX_PAGES):
        with source.send("GET", url, {"Accept": OCI_INDEX}) as response:
            if page == 0 and response.status in _NO_API:
                return None
            found += _descriptors(response, what)
            url = _next_page(response, source, what)
        if not url or len(found) > MAX_REFERRERS:
            return found
    raise RefusedInput(f"{what} come in more than {MAX_PAGES} pages")


def _by_tag(source: Source, subject: Digest) -> Sequence[Descriptor]:
    tag = fallback_tag(subject)
    with source.send("GET", source.manifest_url(tag), {"Accept": OCI_INDEX}) as response:
        if response.status == 404:
            return []
        return _descriptors(response, f"index {tag!r} of {str(source)!r}")


def _descriptors(response: Response, what: str) -> tuple[Descriptor, ...]:
    if response.status != 200:
        raise refusal(response, what)
    if media_type_of(response) != OCI_INDEX:
        raise RefusedInput(f"{what} are served as {media_type_of(response)[:100]!r}")
    document = parse_document(response.read_all(MAX_DOCUMENT_BYTES, what), OCI_INDEX)
    assert isinstance(document, Index)
    return document.manifests


def _next_page(response: Response, source: Source, what: str) -> str:
    """Return the URL of the next page (RFC 8288), "" if this is the last."""
    found = _NEXT.search(response.headers.get("Link", ""))
    if found is None:
        return ""
    url: str = urljoin(response.url, found[1])
    if origin(url) != origin(source.host.base_url):
        raise Unavailable(f"{what} go on at another host: refused")
    return url


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes to one repository.

    Attributes:
        target: the repository.
        policy: how patient to be.
        limiter: requests to this registry at the same time.
    """

    target: Target
    policy: RetryPolicy
    limiter: trio.CapacityLimiter

    async def publish(self, artifact: Artifact) -> Descriptor:
        """Push an artifact so that it is found by its subject, and return its descriptor.

        Raises:
            DigestMismatch: the registry has something else after all.
            Unavailable: it does not answer, or others change the index all the time.
            PermissionDenied, NotFound, RefusedInput: its answer.
        """
        empty = Descriptor(EMPTY_TYPE, Digest.of(EMPTY), len(EMPTY))
        for blob, data in ((empty, EMPTY), *artifact.blobs):
            await self._upload(blob, data)
        found = artifact.descriptor
        put = partial(put_document, self.target, found, str(found.digest), artifact.manifest)
        if not await self._request(put):
            await self._request(partial(self._record, artifact.subject.digest, found))
        return found

    async def _request(self, work: partial[_T]) -> _T:
        return await self.policy.run(partial(run_blocking, work, self.limiter))

    async def _upload(self, blob: Descriptor, data: bytes) -> None:
        upload = Upload(
            self.target, blob, lambda offset, size: data[offset : offset + size], "", lambda _: None
        )
        for _ in range(MAX_STEPS):
            await self._request(partial(upload.step))
            if upload.how is not None:
                return
        raise Unavailable(f"the upload of {str(blob.digest)!r} does not end: gave up")

    def _record(self, subject: Digest, artifact: Descriptor) -> None:
        """Add an artifact to the index under the tag.

        Two who do so at the same time may undo each other's work, as a tag cannot be changed
        conditionally. So it is read again afterwards.
        """
        tag = fallback_tag(subject)
        for _ in range(_TRIES):
            known = _by_tag(self.target.source, subject)
            if any(item.digest == artifact.digest for item in known):
                return
            items = [_Item.of(item) for item in (*known, artifact)]
            data = msgspec.json.encode(_Index(2, OCI_INDEX, items))
            put_document(self.target, Descriptor(OCI_INDEX, Digest.of(data), len(data)), tag, data)
        raise Unavailable(f"others keep changing {tag!r} of {str(self.target)!r}; try again")
