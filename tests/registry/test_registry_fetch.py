"""Fetching blobs from a registry that misbehaves."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from support.clients import PATIENCE, STALLED, opened
from support.content import content_store
from support.faults import (
    FakeRegistry,
    Reply,
    Seen,
    answer,
    cut,
    stall,
    status,
    with_headers,
)

from snapcore.content import ContentStore
from snapcore.errors import (
    DigestMismatch,
    NotFound,
    PermissionDenied,
    RefusedInput,
    Unavailable,
)
from snapcore.labels import distribution_source
from snapcore.locks import Owner
from snapcore.oci import Descriptor, Digest, Reference
from snapcore.oci.descriptor import DOCKER_MANIFEST, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from snapcore.registry import RetryPolicy, Timeouts
from snapcore.registry.claim import ingest_ref

DATA = bytes(range(256)) * 1000
REFERENCE = "lib/app"


def layer(registry: FakeRegistry, data: bytes = DATA) -> Descriptor:
    return Descriptor(OCI_LAYER, registry.add_blob(data), len(data))


def reference(registry: FakeRegistry) -> Reference:
    return Reference.parse(f"{registry.host}/{REFERENCE}")


def ranges(registry: FakeRegistry) -> list[str]:
    return [seen.headers.get("range", "") for seen in registry.requests("/blobs/")]


async def fetch(registry: FakeRegistry, store: ContentStore, descriptor: Descriptor) -> None:
    """Fetch, and check that the store has exactly the registry's bytes."""
    with opened(store) as client:
        info = await client.fetch(descriptor, reference(registry))
    assert info.digest == descriptor.digest
    assert Digest.of(store.read_blob(descriptor, 1 << 20)) == descriptor.digest
    assert not store.statuses()


async def test_labels_and_progress(store: ContentStore, census: None) -> None:
    told: list[tuple[Digest, int, int]] = []
    with FakeRegistry() as registry, opened(store) as client:
        descriptor = layer(registry)
        info = await client.fetch(
            descriptor, reference(registry), lambda *progress: told.append(progress)
        )
        assert info.labels == {distribution_source(registry.host): REFERENCE}
    offsets = [offset for _, offset, _ in told]
    assert offsets == sorted(set(offsets))
    assert offsets[-1] == len(DATA)
    assert {(digest, total) for digest, _, total in told} == {(descriptor.digest, len(DATA))}


@pytest.mark.parametrize("count", [0, 1, len(DATA) // 2, len(DATA) - 1])
async def test_a_cut_body_is_resumed_where_it_ended(store: ContentStore, count: int) -> None:
    with FakeRegistry() as registry:
        descriptor = layer(registry)
        registry.spoil("/blobs/", cut(count))
        await fetch(registry, store, descriptor)
        assert ranges(registry) == ["", f"bytes={count}-" if count else ""]


async def test_each_cut_that_brings_something_is_forgiven(store: ContentStore) -> None:
    with FakeRegistry() as registry:
        descriptor = layer(registry)
        # Far more cuts than tries, as each of them is farther than the one before.
        registry.spoil("/blobs/", *[cut(1000)] * 20)
        await fetch(registry, store, descriptor)
        assert ranges(registry)[1:] == [f"bytes={n}000-" for n in range(1, 21)]


async def test_cuts_that_bring_nothing_end_and_keep_what_came(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        descriptor = layer(registry)
        registry.spoil("/blobs/", cut(5000), *[cut(0)] * PATIENCE.attempts)
        with pytest.raises(Unavailable, match=r"gave up after 3 tries"):
            await client.fetch(descriptor, reference(registry))
        assert store.status(ingest_ref(descriptor)).offset == 5000
        assert not store.exists(descriptor.digest)
        await fetch(registry, store, descriptor)
        assert ranges(registry)[-1] == "bytes=5000-"


async def test_a_chunked_body_that_ends_early_is_resumed(store: ContentStore) -> None:
    def short(_: Seen, reply: Reply) -> Reply:
        return Reply(200, {}, reply.body[:700], chunked=True)

    with FakeRegistry() as registry:
        descriptor = layer(registry)
        registry.spoil("/blobs/", short)
        await fetch(registry, store, descriptor)
        assert ranges(registry) == ["", "bytes=700-"]


async def test_a_whole_body_for_a_range_starts_over(store: ContentStore) -> None:
    with FakeRegistry() as registry:
        descriptor = layer(registry)
        registry.spoil("/blobs/", cut(9000), answer(Reply(200, {}, DATA)))
        await fetch(registry, store, descriptor)
        assert ranges(registry) == ["", "bytes=9000-"]


@pytest.mark.parametrize(
    "content_range",
    [
        f"bytes 9001-{len(DATA) - 1}/{len(DATA)}",
        f"bytes 0-{len(DATA) - 1}/{len(DATA)}",
        f"bytes 9000-{len(DATA) - 1}/{len(DATA) + 1}",
        f"bytes 9000-{len(DATA)}/*",
        "bytes 9000-8999/*",
        "garbage",
        "",
    ],
)
async def test_another_range_than_asked_for_is_not_used(
    store: ContentStore, content_range: str
) -> None:
    with FakeRegistry() as registry:
        descriptor = layer(registry)
        shifted = Reply(206, {"Content-Range": content_range}, DATA[9001:])
        registry.spoil("/blobs/", cut(9000), answer(shifted))
        await fetch(registry, store, descriptor)
        assert ranges(registry) == ["", "bytes=9000-", ""]


async def test_a_range_nobody_asked_for_is_not_used(store: ContentStore) -> None:
    with FakeRegistry() as registry:
        descriptor = layer(registry)
        partial = Reply(206, {"Content-Range": f"bytes 0-9/{len(DATA)}"}, DATA[:10])
        registry.spoil("/blobs/", answer(partial))
        await fetch(registry, store, descriptor)
        assert ranges(registry) == ["", ""]


async def test_a_shorter_range_is_used_and_continued(store: ContentStore) -> None:
    def half(_: Seen, reply: Reply) -> Reply:
        return Reply(206, {"Content-Range": f"bytes 9000-9999/{len(DATA)}"}, reply.body[:1000])

    with FakeRegistry() as registry:
        descriptor = layer(registry)
        registry.spoil("/blobs/", cut(9000), half)
        await fetch(registry, store, descriptor)
        assert ranges(registry) == ["", "bytes=9000-", "bytes=10000-"]


async def test_416_starts_over(store: ContentStore) -> None:
    with FakeRegistry() as registry:
        descriptor = layer(registry)
        registry.spoil("/blobs/", cut(9000), status(416))
        await fetch(registry, store, descriptor)
        assert ranges(registry) == ["", "bytes=9000-", ""]


@pytest.mark.parametrize(
    "body",
    [b"x" + DATA[1:], DATA[:-1], DATA + b"\0"],
    ids=["other-bytes", "shorter", "longer"],
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_wrong_bytes_are_refused_and_not_stored(
    store: ContentStore, body: bytes, chunked: bool
) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        descriptor = layer(registry)
        faults = [answer(Reply(200, {}, body, chunked=chunked))] * 4
        registry.spoil("/blobs/", *faults)
        # A short chunked body cannot be told from a cut one: then it is the tries that end.
        short = chunked and len(body) < len(DATA)
        with pytest.raises(Unavailable if short else DigestMismatch) as refused:
            await client.fetch(descriptor, reference(registry))
        assert short or descriptor.digest.hex in str(refused.value)
    assert not list(store.walk())
    assert bool(store.statuses()) is short


async def test_foreign_leftovers_cost_one_more_download(store: ContentStore) -> None:
    """An ingest may hold bytes of another registry; they must not make an honest one fail."""
    with FakeRegistry() as registry:
        descriptor = layer(registry)
        left = store.ingest(
            ingest_ref(descriptor), total=descriptor.size, expected=descriptor.digest
        )
        left.write(b"x" * 9000)
        left.close()
        await fetch(registry, store, descriptor)
        assert ranges(registry) == ["bytes=9000-", ""]


async def test_a_whole_ingest_is_committed_without_a_request(store: ContentStore) -> None:
    with FakeRegistry() as registry:
        descriptor = layer(registry)
        left = store.ingest(
            ingest_ref(descriptor), total=descriptor.size, expected=descriptor.digest
        )
        left.write(DATA)
        left.close()
        await fetch(registry, store, descriptor)
        assert ranges(registry) == []


async def test_an_empty_blob(store: ContentStore) -> None:
    with FakeRegistry() as registry:
        await fetch(registry, store, layer(registry, b""))


@pytest.mark.parametrize(
    ("code", "kind"),
    [(404, NotFound), (403, PermissionDenied), (418, Unavailable)],
)
async def test_final_answers_are_not_asked_for_twice(
    store: ContentStore, code: int, kind: type[Exception]
) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        descriptor = layer(registry)
        registry.spoil("/blobs/", status(code))
        with pytest.raises(kind, match=f"HTTP {code}"):
            await client.fetch(descriptor, reference(registry))
        assert len(registry.requests("/blobs/")) == 1


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
async def test_busy_answers_are_asked_for_again(store: ContentStore, code: int) -> None:
    with FakeRegistry() as registry:
        descriptor = layer(registry)
        registry.spoil("/blobs/", status(code), status(code))
        await fetch(registry, store, descriptor)
        assert len(registry.requests("/blobs/")) == 3


async def test_a_registry_that_stays_busy_is_unavailable(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        descriptor = layer(registry)
        registry.spoil("/blobs/", *[status(503)] * 9)
        with pytest.raises(Unavailable, match="HTTP 503 UNAVAILABLE"):
            await client.fetch(descriptor, reference(registry))
        assert len(registry.requests("/blobs/")) == PATIENCE.attempts


async def test_a_silent_registry_is_unavailable(store: ContentStore, census: None) -> None:
    with (
        FakeRegistry() as registry,
        opened(store, timeouts=STALLED, policy=RetryPolicy(attempts=1)) as client,
    ):
        descriptor = layer(registry)
        registry.spoil("/blobs/", stall(5000), stall(0))
        with pytest.raises(Unavailable, match="did not answer in time"):
            await client.fetch(descriptor, reference(registry))
        assert store.status(ingest_ref(descriptor)).offset == 5000


async def test_a_trickling_registry_is_unavailable(store: ContentStore) -> None:
    """However often it is asked again: trickling forward is not progress."""
    seconds = itertools.count()
    trickle = Timeouts(window=2.5, min_rate=float("inf"))
    with (
        FakeRegistry() as registry,
        opened(store, timeouts=trickle, clock=lambda: next(seconds)) as client,
    ):
        descriptor = layer(registry, bytes(4 << 20))
        with pytest.raises(Unavailable, match="bytes/s"):
            await client.fetch(descriptor, reference(registry))
        assert len(registry.requests("/blobs/")) == PATIENCE.attempts
        assert 0 < store.status(ingest_ref(descriptor)).offset < 4 << 20


async def test_an_encoded_body_is_refused(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        descriptor = layer(registry)
        registry.spoil("/blobs/", with_headers({"Content-Encoding": "gzip"}))
        with pytest.raises(Unavailable, match="Content-Encoding 'gzip'"):
            await client.fetch(descriptor, reference(registry))
        assert registry.requests("/blobs/")[0].headers["accept-encoding"] == "identity"
    assert not list(store.walk())


async def test_urls_of_a_descriptor_are_not_followed(store: ContentStore) -> None:
    with FakeRegistry() as registry, FakeRegistry() as foreign, opened(store) as client:
        absent = Digest.of(DATA)
        foreign.add_blob(DATA)
        url = f"{foreign.server.url}/v2/x/blobs/{absent}"
        descriptor = Descriptor(OCI_LAYER, absent, len(DATA), urls=(url,))
        with pytest.raises(NotFound):
            await client.fetch(descriptor, reference(registry))
        assert foreign.server.seen == []


async def test_a_document_served_as_another_type_is_refused(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        served = registry.add_manifest(b"{}", DOCKER_MANIFEST)
        claimed = Descriptor(OCI_MANIFEST, served.digest, served.size)
        with pytest.raises(RefusedInput, match="is served as"):
            await client.fetch(claimed, reference(registry))
        assert (await client.fetch(served, reference(registry))).size == 2


async def test_a_document_of_more_than_4_mib_is_refused_unasked(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        registry.add_manifest(b" " * (4 * 1024 * 1024 + 1), OCI_MANIFEST, "huge")
        with pytest.raises(RefusedInput, match="4194305 bytes"):
            await client.resolve(Reference.parse(f"{registry.host}/lib/app:huge"))
        assert [seen.method for seen in registry.server.seen] == ["HEAD"]


async def test_a_blob_in_the_store_with_another_size_is_a_mismatch(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        descriptor = layer(registry)
        await client.fetch(descriptor, reference(registry))
        with pytest.raises(DigestMismatch, match="not 7"):
            await client.fetch(Descriptor(OCI_LAYER, descriptor.digest, 7), reference(registry))


async def test_one_download_however_many_ask(tmp_path: Path, census: None) -> None:
    """Ten tasks, two clients, two stores on one root: as good as two processes."""
    release = threading.Event()

    def slow(_: Seen, reply: Reply) -> Reply:
        release.wait()
        return reply

    owners = [Owner(str(tmp_path)) for _ in range(2)]
    stores = [content_store(str(tmp_path), owner) for owner in owners]
    with FakeRegistry() as registry, opened(stores[0]) as one, opened(stores[1]) as two:
        descriptor = layer(registry)
        registry.spoil("/blobs/", slow)
        done = 0

        async def ask(number: int) -> None:
            nonlocal done
            client = one if number % 2 else two
            # Two names for one digest: the blob is what is locked, not what it is called.
            kind = OCI_LAYER if number % 3 else OCI_CONFIG
            await client.fetch(replace(descriptor, media_type=kind), reference(registry))
            done += 1

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(ask, number)
            while not registry.requests("/blobs/"):
                await trio.sleep(0)
            assert done == 0
            release.set()
        assert done == 10
        assert len(registry.requests("/blobs/")) == 1
    for owner in owners:
        owner.close()


async def test_the_next_one_takes_over_when_a_download_fails(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        descriptor = layer(registry)
        registry.spoil("/blobs/", status(404))
        results: list[str] = []

        async def ask() -> None:
            try:
                await client.fetch(descriptor, reference(registry))
                results.append("fetched")
            except NotFound:
                results.append("failed")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        assert sorted(results) == ["failed", "fetched"]


async def test_requests_at_the_same_time_are_limited(store: ContentStore) -> None:
    release = threading.Event()

    def hold(_: Seen, reply: Reply) -> Reply:
        release.wait()
        return reply

    with FakeRegistry() as registry, opened(store) as client, trio.fail_after(30):
        descriptors = [layer(registry, bytes([n]) * 10) for n in range(8)]
        registry.spoil("/blobs/", *[hold] * 8)
        async with trio.open_nursery() as nursery:
            for descriptor in descriptors:
                nursery.start_soon(client.fetch, descriptor, reference(registry))
            while len(registry.requests("/blobs/")) < 4:
                await trio.sleep(0)
            limiter = client._limiters[registry.host]
            # The other four have got as far as they may.
            while limiter.statistics().tasks_waiting < 4:
                await trio.sleep(0)
            assert len(registry.requests("/blobs/")) == 4
            release.set()
        assert len(list(store.walk())) == 8


async def test_a_cancel_ends_a_silent_download_at_once(store: ContentStore, census: None) -> None:
    """The read timeout is 30 s; only the cancel can end this test before pytest does."""
    with FakeRegistry() as registry, opened(store) as client:
        descriptor = layer(registry)
        registry.spoil("/blobs/", stall(5000))
        arrived = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def progress(digest: Digest, offset: int, total: int) -> None:
            if offset == 5000:
                trio.from_thread.run_sync(arrived.set, trio_token=token)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.fetch, descriptor, reference(registry), progress)
            await arrived.wait()
            nursery.cancel_scope.cancel()
        assert store.status(ingest_ref(descriptor)).offset == 5000
        await fetch(registry, store, descriptor)
        assert ranges(registry)[-1] == "bytes=5000-"


async def test_a_cancel_ends_the_wait_for_headers(store: ContentStore, census: None) -> None:
    arrived = trio.Event()
    token = trio.lowlevel.current_trio_token()
    hold = threading.Event()

    def silent(_: Seen, reply: Reply) -> Reply:
        trio.from_thread.run_sync(arrived.set, trio_token=token)
        hold.wait()
        return reply

    with FakeRegistry() as registry, opened(store) as client:
        descriptor = layer(registry)
        registry.spoil("/blobs/", silent)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.fetch, descriptor, reference(registry))
            await arrived.wait()
            nursery.cancel_scope.cancel()
        hold.set()
