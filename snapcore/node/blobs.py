"""Which blobs an image consists of, and adding small ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from snapcore.content import ContentStore
from snapcore.errors import AlreadyExists, RefusedInput
from snapcore.oci import Descriptor, Platform, is_index
from snapcore.unpack import choose, read_document
from snapcore.unpack.handlers import MAX_INDEX_DEPTH


def blobs_of(
    store: ContentStore, root: Descriptor, platform: Platform | None = None
) -> tuple[Descriptor, ...]:
    """Return an image's blobs, each once, children before parents; blocks.

    What a document that is not here names is not known, and so is left out.

    Args:
        store: has its documents.
        root: a manifest or an index.
        platform: of each index only the best manifest for it; None for all.

    Raises:
        NotFound: nothing fits the platform.
        RefusedInput: a document is malformed, or indexes are nested too deep.
    """
    return tuple({blob.digest: blob for blob in _walk(store, root, platform, 0)}.values())


def _walk(
    store: ContentStore, blob: Descriptor, platform: Platform | None, depth: int
) -> Iterator[Descriptor]:
    if depth > MAX_INDEX_DEPTH + 1:
        raise RefusedInput(f"indexes nested more than {MAX_INDEX_DEPTH} deep")
    document = read_document(store, blob) if store.exists(blob.digest) else None
    children = document.children if document else ()
    if document and platform and is_index(blob.media_type):
        children = choose(blob, children, platform)
    for child in children:
        yield from _walk(store, child, platform, depth + 1)
    yield blob


def put_blob(store: ContentStore, blob: Descriptor, data: bytes, given: Mapping[str, str]) -> None:
    """Put a small blob into the content store, where it may be already; blocks.

    Args:
        store: gets it.
        blob: says its digest and size.
        data: its bytes.
        given: labels, added to those that it has.

    Raises:
        SnapcoreError: the store cannot be written.
    """
    with (
        suppress(AlreadyExists),
        store.ingest(f"made-{blob.digest}", total=blob.size, expected=blob.digest) as ingest,
    ):
        ingest.truncate()
        ingest.write(data)
        ingest.commit(labels=given)
        return
    if given:
        store.update(blob.digest, given, tuple(f"labels.{key}" for key in given))
