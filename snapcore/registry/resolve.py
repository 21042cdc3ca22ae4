"""From a tag or digest to a descriptor and its bytes.

HEAD first: it pins the digest, costs no rate-limited download where the store has the document
already, and lets every byte be checked against a digest known beforehand. Registries that
answer HEAD poorly are asked with GET, and the digest is computed.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from snapcore.errors import RefusedInput
from snapcore.oci import Descriptor, Digest, Reference, is_index, is_manifest, is_schema1
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES, sniff_media_type
from snapcore.registry.download import check_digest, content_digest
from snapcore.registry.fetch import Fetcher
from snapcore.registry.response import Response
from snapcore.registry.source import ACCEPT, Source, media_type_of, refusal

_NO_HEAD: Final = frozenset({400, 405, 406, 501})


async def find(fetcher: Fetcher, reference: Reference) -> tuple[Descriptor, bytes | None]:
    """Ask one host what `reference` is now.

    Args:
        fetcher: for the reference's repository at that host.
        reference: its digest wins over its tag.

    Returns:
        The descriptor; and the document if the host could not describe it without sending it.
        Then it is stored as well.

    Raises:
        NotFound: the host does not know it.
        DigestMismatch: what is served is not what the reference or the header names.
        RefusedInput: not a manifest or index, schema 1, or larger than 4 MiB.
        PermissionDenied, Unavailable, ResourceExhausted, DataLoss: as `Fetcher.fetch`.
    """
    known = await fetcher.request(partial(_head, fetcher.source, reference))
    if known is not None:
        return known, None
    descriptor, data = await fetcher.request(partial(_get, fetcher.source, reference))
    await fetcher.store_bytes(descriptor, data)
    return descriptor, data


def _head(source: Source, reference: Reference) -> Descriptor | None:
    """Return the descriptor, None if the registry's answer does not hold all of it."""
    url = source.manifest_url(reference.object)
    with source.send("HEAD", url, {"Accept": ACCEPT}) as response:
        if response.status in _NO_HEAD:
            return None
        if response.status != 200:
            raise refusal(response, repr(str(reference)))
        media_type = media_type_of(response)
        _refuse_schema1(media_type, reference)
        digest = content_digest(response)
        length = response.headers.get("Content-Length", "").strip()
        if digest is None or not (length.isascii() and length.isdigit() and len(length) < 19):
            return None
        if reference.digest is not None and digest.algorithm == reference.digest.algorithm:
            check_digest(digest, reference.digest, repr(str(reference)))
        elif reference.digest is not None:
            return None
        if not (is_index(media_type) or is_manifest(media_type)) or int(length) == 0:
            return None
        return Descriptor(media_type, digest, int(length))


def _get(source: Source, reference: Reference) -> tuple[Descriptor, bytes]:
    what = repr(str(reference))
    url = source.manifest_url(reference.object)
    with source.send("GET", url, {"Accept": ACCEPT}) as response:
        if response.status != 200:
            raise refusal(response, what)
        data = response.read_all(MAX_DOCUMENT_BYTES, what)
        media_type = _document_type(response, data, reference)
        named = content_digest(response)
    if named is not None:
        check_digest(Digest.of(data, named.algorithm), named, what)
    algorithm = reference.digest.algorithm if reference.digest else "sha256"
    digest = Digest.of(data, algorithm)
    if reference.digest is not None:
        check_digest(digest, reference.digest, what)
    return Descriptor(media_type, digest, len(data)), data


def _document_type(response: Response, data: bytes, reference: Reference) -> str:
    media_type = media_type_of(response)
    _refuse_schema1(media_type, reference)
    if is_index(media_type) or is_manifest(media_type):
        return media_type
    media_type = sniff_media_type(data)
    _refuse_schema1(media_type, reference)
    if not (is_index(media_type) or is_manifest(media_type)):
        raise RefusedInput(f"{str(reference)!r} is not an image: media type {media_type[:100]!r}")
    return media_type


def _refuse_schema1(media_type: str, reference: Reference) -> None:
    if is_schema1(media_type):
        raise RefusedInput(
            f"{str(reference)!r} is a Docker schema 1 manifest, which is not supported;"
            " push the image again with a current client"
        )
