"""From tags and digests to documents, whatever the registry answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.clients import opened
from support.faults import (
    FakeRegistry,
    Fault,
    Reply,
    Seen,
    answer,
    status,
    with_body,
    with_headers,
    without,
)

from snapcore.content import ContentStore
from snapcore.errors import DigestMismatch, NotFound, RefusedInput, SnapcoreError, Unavailable
from snapcore.oci import Descriptor, Digest, Reference
from snapcore.oci.descriptor import (
    DOCKER_SCHEMA1_SIGNED,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
)

INDEX = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
OTHER = INDEX.replace(b"[]", b"[ ]")
HEAD = "HEAD /v2/lib/app/manifests"
GET = "GET /v2/lib/app/manifests"
MIB = 1024 * 1024


def reference(registry: FakeRegistry, rest: str = "") -> Reference:
    return Reference.parse(f"{registry.host}/lib/app{rest}")


async def refused(
    store: ContentStore, kind: type[SnapcoreError], message: str, *faults: tuple[str, Fault]
) -> None:
    """Resolve `:latest` with these faults: it must be refused, and nothing stored."""
    with FakeRegistry() as registry, opened(store) as client:
        registry.add_manifest(INDEX, OCI_INDEX)
        for part, fault in faults:
            registry.spoil(part, fault)
        with pytest.raises(kind, match=message):
            await client.resolve(reference(registry))
    assert not list(store.walk())


async def test_one_head_one_get_by_digest(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        expected = registry.add_manifest(INDEX, OCI_INDEX)
        assert await client.resolve(reference(registry)) == (expected, INDEX)
        asked = [(seen.method, seen.path.rpartition("/")[2]) for seen in registry.server.seen]
        assert asked == [("HEAD", "latest"), ("GET", str(expected.digest))]
        assert OCI_INDEX in registry.server.seen[0].headers["accept"]


async def test_a_known_document_costs_no_get(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        registry.add_manifest(INDEX, OCI_INDEX)
        first = await client.resolve(reference(registry))
        assert await client.resolve(reference(registry)) == first
        assert len(registry.requests(HEAD)) == 2
        assert len(registry.requests(GET)) == 1


async def test_a_moved_tag_is_seen(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        registry.add_manifest(INDEX, OCI_INDEX)
        await client.resolve(reference(registry))
        moved = registry.add_manifest(OTHER, OCI_INDEX)
        assert await client.resolve(reference(registry)) == (moved, OTHER)


@pytest.mark.parametrize(
    "fault",
    [
        status(405),
        status(400),
        status(501),
        without("Docker-Content-Digest"),
        with_headers({"Docker-Content-Digest": "md5:abc"}),
        without("Content-Length"),
        with_headers({"Content-Length": "0"}),
        with_headers({"Content-Type": "text/plain"}),
        without("Content-Type"),
    ],
)
async def test_a_poor_head_is_made_up_for_by_get(
    store: ContentStore, fault: Fault, census: None
) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        expected = registry.add_manifest(INDEX, OCI_INDEX)
        registry.spoil(HEAD, fault)
        assert await client.resolve(reference(registry)) == (expected, INDEX)
        assert [seen.path.rpartition("/")[2] for seen in registry.requests(GET)] == ["latest"]
        assert store.exists(expected.digest)


async def test_a_registry_without_types_is_believed_what_the_body_says(
    store: ContentStore,
) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        expected = registry.add_manifest(INDEX, OCI_INDEX)
        for part in (HEAD, GET):
            registry.spoil(part, with_headers({"Content-Type": "application/json; charset=utf-8"}))
        assert await client.resolve(reference(registry)) == (expected, INDEX)


async def test_a_digest_wins_over_a_tag(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        wanted = registry.add_manifest(INDEX, OCI_INDEX)
        registry.add_manifest(OTHER, OCI_INDEX)
        found = await client.resolve(reference(registry, f":latest@{wanted.digest}"))
        assert found == (wanted, INDEX)


@pytest.mark.parametrize("head", [True, False])
async def test_a_digest_reference_is_verified(store: ContentStore, head: bool) -> None:
    wanted = Digest.of(INDEX)
    lie = with_headers({"Docker-Content-Digest": str(Digest.of(OTHER))})

    def other(_: Seen, reply: Reply) -> Reply:
        headers = {**reply.headers, "Docker-Content-Digest": str(Digest.of(OTHER))}
        return replace(reply, body=OTHER, headers=headers)

    with FakeRegistry() as registry, opened(store) as client:
        registry.add_manifest(INDEX, OCI_INDEX)
        registry.spoil(HEAD, lie if head else status(405))
        registry.spoil(GET, other)
        with pytest.raises(DigestMismatch, match=str(wanted)):
            await client.resolve(reference(registry, f"@{wanted}"))
    assert not list(store.walk())


async def test_sha512_references(store: ContentStore) -> None:
    """The registry names its sha256 in the header; ours is computed from the bytes."""
    wanted = Digest.of(INDEX, "sha512")
    with FakeRegistry() as registry, opened(store) as client:
        registry.add_manifest(INDEX, OCI_INDEX, tag=str(wanted))
        descriptor, data = await client.resolve(reference(registry, f"@{wanted}"))
        assert (descriptor.digest, data) == (wanted, INDEX)


async def test_bytes_that_contradict_the_header_are_refused(store: ContentStore) -> None:
    same_length = INDEX.replace(b"2", b"3", 1)
    await refused(store, DigestMismatch, "sha256", (GET, with_body(same_length)))
    await refused(
        store, DigestMismatch, "sha256", (HEAD, status(405)), (GET, with_body(same_length))
    )


async def test_schema_1_is_refused(store: ContentStore) -> None:
    old = with_headers({"Content-Type": f"{DOCKER_SCHEMA1_SIGNED}; charset=utf-8"})
    await refused(store, RefusedInput, "schema 1", (HEAD, old))
    await refused(store, RefusedInput, "schema 1", (HEAD, status(405)), (GET, old))


async def test_what_is_no_image_is_refused(store: ContentStore) -> None:
    page = answer(Reply(200, {"Content-Type": "text/html"}, b"<html>"))
    await refused(store, RefusedInput, "malformed", (HEAD, page), (GET, page))
    config = b'{"schemaVersion":2,"mediaType":"' + OCI_CONFIG.encode() + b'"}'
    named = answer(Reply(200, {"Content-Type": "application/json"}, config))
    await refused(store, RefusedInput, "not an image", (HEAD, status(405)), (GET, named))


async def test_a_type_that_changes_between_head_and_get_is_refused(store: ContentStore) -> None:
    confused = with_headers({"Content-Type": OCI_MANIFEST})
    await refused(store, RefusedInput, "is served as", (GET, confused))


@pytest.mark.parametrize("chunked", [False, True])
async def test_documents_of_more_than_4_mib_are_refused(store: ContentStore, chunked: bool) -> None:
    huge = answer(Reply(200, {"Content-Type": OCI_INDEX}, b" " * (4 * MIB + 1), chunked=chunked))
    await refused(store, RefusedInput, "4194304", (HEAD, status(405)), (GET, huge))


async def test_a_huge_head_is_refused_without_a_get(store: ContentStore) -> None:
    huge = with_headers({"Content-Length": str(4 * MIB + 1)})
    await refused(store, RefusedInput, "4194305", (HEAD, huge))


async def test_an_encoded_document_is_refused(store: ContentStore) -> None:
    encoded = with_headers({"Content-Encoding": "gzip"})
    await refused(store, Unavailable, "Content-Encoding", (GET, encoded))
    await refused(store, Unavailable, "Content-Encoding", (HEAD, status(405)), (GET, encoded))


async def test_busy_registries_are_asked_again(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        expected = registry.add_manifest(INDEX, OCI_INDEX)
        registry.spoil(HEAD, status(503), status(429))
        registry.spoil(GET, status(502))
        assert await client.resolve(reference(registry)) == (expected, INDEX)


async def test_names_nobody_knows(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        with pytest.raises(NotFound, match="lib/app:absent"):
            await client.resolve(reference(registry, ":absent"))
        assert len(registry.server.seen) == 1


async def test_two_names_of_one_document_share_it(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        expected = registry.add_manifest(INDEX, OCI_INDEX, "one")
        registry.add_manifest(INDEX, OCI_INDEX, "two")
        registry.spoil(HEAD, status(405), status(405))
        await client.resolve(reference(registry, ":one"))
        await client.resolve(reference(registry, ":two"))
        assert [info.digest for info in store.walk()] == [expected.digest]


async def test_configs_are_fetched_as_blobs(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        config = Descriptor(OCI_CONFIG, registry.add_blob(b"{}"), 2)
        assert (await client.fetch(config, reference(registry))).size == 2
        assert len(registry.requests("/blobs/")) == 1
