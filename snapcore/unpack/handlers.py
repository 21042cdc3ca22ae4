"""Image handlers: one function per descriptor, walked down an image's tree.

A handler does something with a descriptor (fetch it, label it) and returns the descriptors
below it. `dispatch` walks on into those. Because a handler is only a function, anybody can wrap
one; the unpacker is such a wrapper, and a third party's scanner or filter may be another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from snapcore import labels
from snapcore.content import ContentStore
from snapcore.errors import NotFound, RefusedInput
from snapcore.oci import (
    Descriptor,
    Digest,
    Index,
    Manifest,
    Platform,
    is_image_config,
    is_index,
    is_layer,
    is_manifest,
    is_schema1,
    parse_document,
)
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES

MAX_INDEX_DEPTH: Final = 4

Handler: TypeAlias = Callable[[Descriptor], Awaitable[tuple[Descriptor, ...]]]


class SkipDescriptor(Exception):
    """Raised by a handler: this descriptor is dealt with and nothing below it matters.

    A signal, not a failure; a layer that is skipped counts as fetched.
    """


async def dispatch(handler: Handler, descriptors: Sequence[Descriptor]) -> None:
    """Walk trees of descriptors, siblings at the same time, until all are handled.

    Raises:
        RefusedInput: indexes are nested more than `MAX_INDEX_DEPTH` deep.
        SnapcoreError: whatever the handler raised first; the rest is cancelled.
    """
    await _dispatch(handler, descriptors, 0)


async def _dispatch(handler: Handler, descriptors: Sequence[Descriptor], depth: int) -> None:
    # A cycle would need a document that contains its own digest, so depth alone bounds the walk.
    if depth > MAX_INDEX_DEPTH + 1:
        raise RefusedInput(f"indexes nested more than {MAX_INDEX_DEPTH} deep")
    import trio

    async with trio.open_nursery() as nursery:
        for descriptor in descriptors:
            nursery.start_soon(_visit, handler, descriptor, depth)


async def _visit(handler: Handler, descriptor: Descriptor, depth: int) -> None:
    try:
        children = await handler(descriptor)
    except SkipDescriptor:
        return
    if children:
        await _dispatch(handler, children, depth + 1)


def children_of(store: ContentStore) -> Handler:
    """Return a handler that reads a stored document and returns what it names."""
    import trio

    async def handle(descriptor: Descriptor) -> tuple[Descriptor, ...]:
        document = await trio.to_thread.run_sync(read_document, store, descriptor)
        return document.children if document else ()

    return handle


def read_document(store: ContentStore, descriptor: Descriptor) -> Manifest | Index | None:
    """Read and parse a stored manifest or index; None for any other media type.

    Raises:
        NotFound: the blob is not here.
        RefusedInput: it is malformed, or Docker schema 1.
    """
    media_type = descriptor.media_type
    if not (is_index(media_type) or is_manifest(media_type) or is_schema1(media_type)):
        return None
    return parse_document(store.read_blob(descriptor, MAX_DOCUMENT_BYTES), media_type)


def for_platform(handler: Handler, platform: Platform) -> Handler:
    """Return a handler that keeps, of an index's manifests, the best one for a platform.

    Raises (when called):
        NotFound: none of the manifests runs there; the message lists what there is.
    """

    async def handle(descriptor: Descriptor) -> tuple[Descriptor, ...]:
        children = await handler(descriptor)
        return (
            choose(descriptor, children, platform) if is_index(descriptor.media_type) else children
        )

    return handle


def remember_choice(handler: Handler, platform: Platform, chosen: set[Digest]) -> Handler:
    """Return a handler that keeps all manifests of an index and notes the best for a platform.

    Args:
        handler: returns an index's children.
        platform: to choose for.
        chosen: has the digest where the walk begins; gets those that are chosen below it.
    """

    async def handle(descriptor: Descriptor) -> tuple[Descriptor, ...]:
        children = await handler(descriptor)
        if is_index(descriptor.media_type) and descriptor.digest in chosen:
            # An image that has nothing for this platform may still be fetched for others.
            with suppress(NotFound):
                chosen.update(c.digest for c in choose(descriptor, children, platform))
        return children

    return handle


def choose(
    index: Descriptor, children: Sequence[Descriptor], platform: Platform
) -> tuple[Descriptor, ...]:
    """Return the best manifest for a platform; the first one among equals.

    Nested indexes and manifests without a platform are taken only where nothing matches.

    Raises:
        NotFound: nothing fits.
    """
    ranked = [
        (rank, position)
        for position, child in enumerate(children)
        if child.platform and (rank := platform.rank(child.platform)) is not None
    ]
    if ranked:
        return (children[min(ranked)[1]],)
    open_ended = [c for c in children if c.platform is None and _may_hold_image(c)]
    if open_ended:
        return tuple(open_ended[:1])
    offered = ", ".join(sorted({str(c.platform) for c in children if c.platform})) or "nothing"
    raise NotFound(f"image index {index.digest} has no manifest for {platform} (it has {offered})")


def best_document(store: ContentStore, root: Descriptor, platform: Platform) -> Descriptor:
    """Follow stored indexes down to what is best for a platform; `root` if it is no index.

    Raises:
        NotFound: a document is not here, or nothing fits.
        RefusedInput: one is malformed.
    """
    while is_index(root.media_type):
        document = read_document(store, root)
        assert document is not None
        root = choose(root, document.children, platform)[0]
    return root


def _may_hold_image(descriptor: Descriptor) -> bool:
    return is_manifest(descriptor.media_type) or is_index(descriptor.media_type)


def label_children(store: ContentStore, handler: Handler) -> Handler:
    """Return a handler that labels a document with references to its children.

    The labels keep the children from being collected (containerd, docs/garbage-collection.md).
    They are written before the children are fetched.
    """
    import trio

    async def handle(descriptor: Descriptor) -> tuple[Descriptor, ...]:
        children = await handler(descriptor)
        if children:
            refs = child_labels(children)
            await trio.to_thread.run_sync(
                store.update, descriptor.digest, refs, tuple(f"labels.{key}" for key in refs)
            )
        return children

    return handle


def child_labels(children: Sequence[Descriptor]) -> dict[str, str]:
    """Return one garbage-collection label per child, with containerd's key forms.

    `…content.config`, `…content.m.<n>` for manifests, `…content.l.<n>` for layers and
    `…content.<n>` for the rest, counted per form (core/images/handlers.go).
    """
    counters: dict[str, int] = {}
    result: dict[str, str] = {}
    for child in children:
        form = _label_form(child)
        number = counters.get(form, 0)
        counters[form] = number + 1
        suffix = str(number) if form.endswith(".") or number else ""
        result[form + suffix] = str(child.digest)
    return result


def _label_form(child: Descriptor) -> str:
    base = labels.GC_REF_CONTENT
    if is_image_config(child.media_type):
        return f"{base}.config"
    if is_manifest(child.media_type) or is_index(child.media_type):
        return f"{base}.m."
    if is_layer(child.media_type):
        return f"{base}.l."
    return f"{base}."
