"""What refers to an image: published and found, on registries with the API and without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from support.clients import opened
from support.faults import Fault, Reply, Seen, answer, status, with_body, with_headers
from support.referrers import ReferrersRegistry
from support.registry import TokenServer, docker_registry

from snapcore.content import ContentStore
from snapcore.errors import (
    DigestMismatch,
    PermissionDenied,
    RefusedInput,
    SnapcoreError,
    Unavailable,
)
from snapcore.oci import Descriptor, Digest, Reference, parse_document
from snapcore.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from snapcore.oci.manifest import Manifest
from snapcore.registry import Artifact
from snapcore.registry.referrers import MAX_PAGES, fallback_tag

SPANS = "application/vnd.example.spans.v1+json"
NOTES = "application/vnd.example.notes.v1+json"
BLOB = b"an index of spans"
SUBJECT = Descriptor(OCI_MANIFEST, Digest.of(b"manifest"), 8)


def artifact(kind: str = SPANS, text: str = "", subject: Descriptor = SUBJECT) -> Artifact:
    blob = Descriptor("application/octet-stream", Digest.of(BLOB), len(BLOB))
    return Artifact(kind, subject, ((blob, BLOB),), {"org.example.text": text})


def repository(host: str) -> Reference:
    return Reference.parse(f"{host}/lib/app:1")


@contextmanager
def registry(kind: str, tmp_path: Path) -> Iterator[str]:
    """A registry with the API, one without, or a real one, which has none either."""
    if kind == "docker":
        with docker_registry(tmp_path, tmp_path) as host:
            yield host
    else:
        with ReferrersRegistry(
            page=2 if kind == "paged" else 0, filters=kind == "paged", tracks=kind != "tags"
        ) as fake:
            yield fake.host


KINDS = ("docker", "api", "paged", "tags")


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_published_is_found(
    store: ContentStore, tmp_path: Path, census: None, kind: str
) -> None:
    with registry(kind, tmp_path) as host, opened(store) as client:
        where = repository(host)
        assert await client.referrers(where, SUBJECT.digest) == ()
        pushed = [
            await client.attach(artifact(each, text), where)
            for each, text in ((SPANS, "a"), (NOTES, "b"), (SPANS, "c"), (SPANS, "d"), (SPANS, "e"))
        ]
        everything = await client.referrers(where, SUBJECT.digest)
        assert sorted(everything, key=str) == sorted(pushed, key=str)
        spans = await client.referrers(where, SUBJECT.digest, SPANS)
        assert [item.annotations["org.example.text"] for item in spans] == ["a", "c", "d", "e"]
        assert {item.artifact_type for item in spans} == {SPANS}
        assert await client.referrers(where, Digest.of(b"another"), SPANS) == ()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_found_can_be_fetched(store: ContentStore, tmp_path: Path, kind: str) -> None:
    with registry(kind, tmp_path) as host, opened(store) as client:
        where = repository(host)
        await client.attach(artifact(), where)
        (found,) = await client.referrers(where, SUBJECT.digest, SPANS)
        by_digest = Reference.parse(f"{host}/lib/app@{found.digest}")
        _, data = await client.resolve(by_digest)
        manifest = parse_document(data, OCI_MANIFEST)
        assert isinstance(manifest, Manifest)
        assert manifest.artifact_type == SPANS
        assert manifest.subject is not None
        assert manifest.subject.digest == SUBJECT.digest
        await client.fetch(manifest.layers[0], where)
        assert store.read_blob(manifest.layers[0], 1000) == BLOB


@pytest.mark.parametrize("kind", KINDS)
async def test_publishing_twice_changes_nothing(
    store: ContentStore, tmp_path: Path, kind: str
) -> None:
    with registry(kind, tmp_path) as host, opened(store) as client:
        first = await client.attach(artifact(), repository(host))
        assert await client.attach(artifact(), repository(host)) == first
        found = await client.referrers(repository(host), SUBJECT.digest)
        assert {item.digest for item in found} == {first.digest}


async def test_a_real_registry_with_tokens(store: ContentStore, tmp_path: Path) -> None:
    with (
        TokenServer() as tokens,
        docker_registry(tmp_path, tmp_path, tokens=tokens) as host,
        opened(store) as client,
    ):
        pushed = await client.attach(artifact(), repository(host))
        assert await client.referrers(repository(host), SUBJECT.digest) == (pushed,)


def test_the_tag_is_that_of_the_specification() -> None:
    assert fallback_tag(Digest("sha256", "a" * 64)) == f"sha256-{'a' * 64}"
    assert fallback_tag(Digest("sha512", "b" * 128)) == f"sha512-{'b' * 64}"


async def test_the_index_keeps_what_others_put_there(store: ContentStore) -> None:
    other = artifact(NOTES, "other")
    with ReferrersRegistry(tracks=False) as fake, opened(store) as client:

        def meanwhile(_: Seen, reply: Reply) -> Reply:
            """Somebody else writes the tag just after us."""
            items = [
                {
                    "mediaType": OCI_MANIFEST,
                    "digest": str(other.descriptor.digest),
                    "size": other.descriptor.size,
                    "artifactType": NOTES,
                    "annotations": {"org.example.text": "other"},
                }
            ]
            document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": items}
            fake.add_manifest(
                json.dumps(document).encode(), OCI_INDEX, fallback_tag(SUBJECT.digest)
            )
            return reply

        fake.spoil(f"PUT /v2/lib/app/manifests/{fallback_tag(SUBJECT.digest)}", meanwhile)
        ours = await client.attach(artifact(), repository(fake.host))
        found = await client.referrers(repository(fake.host), SUBJECT.digest)
        assert set(map(str, found)) == {str(ours), str(other.descriptor)}


PAGE = "GET /v2/lib/app/referrers/"


def index(count: int) -> bytes:
    item = {"mediaType": OCI_MANIFEST, "digest": str(SUBJECT.digest), "size": 8}
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [item] * count}
    return json.dumps(document).encode()


def page(count: int, link: str = "") -> Fault:
    return answer(Reply(200, {"Content-Type": OCI_INDEX, "Link": link}, index(count)))


@pytest.mark.parametrize(
    ("faults", "kind", "says"),
    [
        ([with_body(b"{")], RefusedInput, "malformed"),
        ([with_headers({"Content-Type": "text/html"})], RefusedInput, "text/html"),
        ([with_body(b" " * (5 << 20))], RefusedInput, "larger than"),
        ([page(1001)], RefusedInput, "1001 children"),
        ([page(600, '</v2/lib/app/referrers/x?p=1>; rel="next"')] * 2, RefusedInput, "1000 ref"),
        ([page(1, '</v2/lib/app/referrers/x>; rel="next"')] * MAX_PAGES, RefusedInput, "20 pages"),
        ([page(1, '<https://elsewhere.example/v2/x>; rel="next"')], Unavailable, "another host"),
        ([status(403)], PermissionDenied, "refused access"),
        ([status(500)] * 3, Unavailable, "gave up"),
        ([page(1, '</v2/lib/app/referrers/x>; rel="next"'), status(418)], Unavailable, "418"),
    ],
)
async def test_a_bad_answer_is_a_typed_error(
    store: ContentStore, faults: list[Fault], kind: type[SnapcoreError], says: str
) -> None:
    with ReferrersRegistry() as fake, opened(store) as client:
        fake.spoil(PAGE, *faults)
        with pytest.raises(kind, match=says):
            await client.referrers(repository(fake.host), SUBJECT.digest)


async def test_a_busy_moment_is_got_over(store: ContentStore) -> None:
    with ReferrersRegistry() as fake, opened(store) as client:
        fake.spoil(PAGE, status(503))
        fake.spoil("PUT /v2/lib/app/manifests/", status(502))
        fake.spoil("POST ", status(429))
        pushed = await client.attach(artifact(), repository(fake.host))
        assert await client.referrers(repository(fake.host), SUBJECT.digest) == (pushed,)


async def test_a_registry_that_says_another_digest_is_not_believed(store: ContentStore) -> None:
    with ReferrersRegistry() as fake, opened(store) as client:
        fake.spoil(
            "PUT /v2/lib/app/manifests/",
            with_headers({"Docker-Content-Digest": str(Digest.of(b"x"))}),
        )
        with pytest.raises(DigestMismatch):
            await client.attach(artifact(), repository(fake.host))


async def test_a_tag_that_never_keeps_ends(store: ContentStore) -> None:
    with ReferrersRegistry(tracks=False) as fake, opened(store) as client:
        gone = Reply(201)
        tag = fallback_tag(SUBJECT.digest)
        fake.spoil(f"GET /v2/lib/app/manifests/{tag}", *[status(404)] * 20)
        fake.spoil(f"PUT /v2/lib/app/manifests/{tag}", *[answer(gone)] * 20)
        with trio.fail_after(10), pytest.raises(Unavailable, match="keep changing"):
            await client.attach(artifact(), repository(fake.host))
