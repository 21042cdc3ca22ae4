"""Pushing: uploads that resume, mounts, tags last, and a registry that is not believed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
from support.clients import opened
from support.content import put_blob
from support.faults import Fault, HttpServer, Reply, Seen, answer, error, status
from support.images import run_tool
from support.registry import TokenServer, docker_registry

from snapcore.content import ContentStore
from snapcore.errors import (
    DigestMismatch,
    InvalidArgument,
    PermissionDenied,
    SnapcoreError,
    Unavailable,
)
from snapcore.labels import distribution_source
from snapcore.oci import Descriptor, Digest, Reference
from snapcore.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from snapcore.registry import (
    Credentials,
    CredentialSource,
    GivenCredentials,
    HostConfig,
    HostsResolver,
    Outgoing,
    PushListener,
    anonymous,
)
from snapcore.unpack import single_error

CHUNK: Final = 1000
LARGE: Final = bytes(range(256)) * 14
SMALL: Final = b"{}"
_CONTENT_RANGE: Final = re.compile(r"(\d+)-(\d+)\Z")


class FakeTarget:
    """A registry that takes pushes: uploads, mounts and manifests in memory; a context manager."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.elsewhere: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.prefix = ""
        self._faults: list[tuple[str, Fault]] = []
        self.server: Final = HttpServer(self._reply)

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__()

    def spoil(self, part: str, *faults: Fault) -> None:
        self._faults.extend((part, fault) for fault in faults)

    def requests(self, part: str) -> list[Seen]:
        return [seen for seen in self.server.seen if part in f"{seen.method} {seen.path}"]

    def _reply(self, request: Seen) -> Reply:
        where = f"{request.method} {request.path}"
        for index, (part, fault) in enumerate(self._faults):
            if part in where:
                del self._faults[index]
                return fault(request, self._honest(request))
        return self._honest(request)

    def _honest(self, request: Seen) -> Reply:
        path, query = urlsplit(request.path).path, parse_qs(urlsplit(request.path).query)
        name = path.rsplit("/", 1)[1]
        if "/manifests/" in path:
            return self._manifest(request, name)
        if request.method == "HEAD":
            found = self.blobs.get(name)
            return error(404, "BLOB_UNKNOWN") if found is None else Reply(200, {}, found)
        if request.method == "POST":
            return self._post(query)
        if name not in self.uploads:
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        return self._upload(request, name, query)

    def _post(self, query: Mapping[str, list[str]]) -> Reply:
        if "mount" in query:
            mounted = self.elsewhere.get((query["from"][0], query["mount"][0]))
            if mounted is not None:
                self.blobs[query["mount"][0]] = mounted
                return Reply(201, {"Location": "/x"})
        name = f"u{len(self.uploads)}"
        self.uploads[name] = b""
        return self._at(name, 202)

    def _at(self, name: str, code: int) -> Reply:
        have = len(self.uploads[name])
        headers = {
            "Location": f"{self.prefix}/v2/app/blobs/uploads/{name}?state=s",
            "Range": f"0-{max(have - 1, 0)}",
        }
        return Reply(code, headers)

    def _upload(self, request: Seen, name: str, query: Mapping[str, list[str]]) -> Reply:
        if request.method == "GET":
            return self._at(name, 204)
        if request.method == "PATCH":
            first = _CONTENT_RANGE.match(request.headers["content-range"])
            assert first is not None
            if int(first[1]) != len(self.uploads[name]):
                return Reply(416)
            self.uploads[name] += request.body
            return self._at(name, 202)
        data = self.uploads.pop(name) + request.body
        (digest,) = query["digest"]
        if str(Digest.of(data)) != digest:
            return error(400, "DIGEST_INVALID")
        self.blobs[digest] = data
        return Reply(201, {"Location": "/x"})

    def _manifest(self, request: Seen, name: str) -> Reply:
        if request.method == "PUT":
            digest = str(Digest.of(request.body))
            for key in {name, digest}:
                self.manifests[key] = (request.headers["content-type"], request.body)
            return Reply(201, {"Docker-Content-Digest": digest})
        if name not in self.manifests:
            return error(404, "MANIFEST_UNKNOWN")
        media_type, data = self.manifests[name]
        headers = {"Content-Type": media_type, "Docker-Content-Digest": str(Digest.of(data))}
        return Reply(200, headers, data)


@pytest.fixture
def target() -> Iterator[FakeTarget]:
    with FakeTarget() as server:
        yield server


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push told."""

    how: Mapping[Digest, str]
    offsets: list[int]


def stored(store: ContentStore, data: bytes, media_type: str) -> Descriptor:
    digest = Digest.of(data)
    if not store.exists(digest):
        put_blob(store, data)
    return Descriptor(media_type, digest, len(data))


def record(blob: Descriptor) -> dict[str, object]:
    return {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size}


def image(store: ContentStore, *layers: bytes) -> Outgoing:
    blobs = [stored(store, data, OCI_LAYER) for data in layers]
    config = stored(store, SMALL, OCI_CONFIG)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": record(config),
        "layers": [record(blob) for blob in blobs],
    }
    manifest = stored(store, json.dumps(document).encode(), OCI_MANIFEST)
    return Outgoing("localhost/app:1", manifest, (config, *blobs, manifest))


def push(
    store: ContentStore,
    host: str,
    wanted: Outgoing,
    name: str = "app:1",
    credentials: CredentialSource = anonymous,
    hosts: HostsResolver | None = None,
) -> Pushed:
    how: dict[Digest, str] = {}
    offsets: list[int] = []
    listener = PushListener(
        lambda blob: None,
        lambda blob, offset: offsets.append(offset),
        lambda blob, said: how.__setitem__(blob.digest, said),
    )

    async def run() -> None:
        with opened(store, credentials, hosts=hosts) as client, single_error():
            await client.push(wanted, Reference.parse(f"{host}/{name}"), listener, CHUNK)

    trio.run(run)
    return Pushed(how, offsets)


def test_blobs_go_in_chunks_and_the_tag_last(
    store: ContentStore, census: None, target: FakeTarget
) -> None:
    wanted = image(store, LARGE)
    pushed = push(store, target.server.host, wanted)
    assert set(pushed.how.values()) == {"uploaded"}
    assert target.blobs[str(Digest.of(LARGE))] == LARGE
    assert [len(seen.body) for seen in target.requests("PATCH")] == [1000, 1000, 1000, 584]
    # The small one in one request, the large one's end without a body.
    assert sorted(len(seen.body) for seen in target.requests("PUT /v2/app/blobs")) == [0, 2]
    first = next(i for i, seen in enumerate(target.server.seen) if "manifests" in seen.path)
    assert all("manifests" in seen.path for seen in target.server.seen[first:])
    (put,) = target.requests("PUT /v2/app/manifests")
    assert put.path.endswith("/manifests/1")
    assert put.headers["content-type"] == OCI_MANIFEST
    assert Digest.of(put.body) == wanted.root.digest


def test_a_second_push_sends_nothing(store: ContentStore, target: FakeTarget) -> None:
    wanted = image(store, LARGE)
    push(store, target.server.host, wanted)
    target.server.seen.clear()
    assert set(push(store, target.server.host, wanted).how.values()) == {"exists"}
    assert {seen.method for seen in target.server.seen} == {"HEAD"}


def test_children_go_before_their_index(store: ContentStore, target: FakeTarget) -> None:
    one, two = image(store, b"1"), image(store, b"2")
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [record(one.root), record(two.root)],
    }
    index = stored(store, json.dumps(document).encode(), OCI_INDEX)
    blobs = {blob.digest: blob for blob in (*one.blobs, *two.blobs, index)}
    push(store, target.server.host, Outgoing("a", index, tuple(blobs.values())))
    names = [seen.path.rsplit("/", 1)[1] for seen in target.requests("PUT /v2/app/manifests")]
    assert names == [str(one.root.digest), str(two.root.digest), "1"]


def test_the_repositories_are_remembered(store: ContentStore, target: FakeTarget) -> None:
    wanted = image(store, LARGE)
    push(store, target.server.host, wanted)
    key = distribution_source(target.server.host)
    assert {store.info(blob.digest).labels[key] for blob in wanted.blobs} == {"app"}


def test_a_broken_upload_goes_on(store: ContentStore, target: FakeTarget) -> None:
    """The answer to a chunk is lost, but not the chunk."""
    target.spoil("PATCH", lambda _, reply: reply, status(502))
    push(store, target.server.host, image(store, LARGE))
    assert target.blobs[str(Digest.of(LARGE))] == LARGE
    starts = [seen.headers["content-range"] for seen in target.requests("PATCH")]
    assert starts == ["0-999", "1000-1999", "2000-2999", "3000-3583"]
    assert len(target.requests("GET /v2/app/blobs/uploads")) == 1


def test_a_chunk_taken_in_part(store: ContentStore, target: FakeTarget) -> None:
    def half(request: Seen, _: Reply) -> Reply:
        name = urlsplit(request.path).path.rsplit("/", 1)[1]
        target.uploads[name] = target.uploads[name][: -len(request.body) // 2]
        return Reply(500)

    target.spoil("PATCH", half)
    push(store, target.server.host, image(store, LARGE))
    starts = [seen.headers["content-range"] for seen in target.requests("PATCH")]
    assert starts[:2] == ["0-999", "500-1499"]
    assert target.blobs[str(Digest.of(LARGE))] == LARGE


@pytest.mark.parametrize("method", ["PATCH", "PUT /v2/app/blobs", "GET /v2/app/blobs"])
def test_a_forgotten_upload_begins_anew(
    store: ContentStore, target: FakeTarget, method: str
) -> None:
    if method.startswith("GET"):
        target.spoil("PATCH", status(503))
    target.spoil(method, answer(error(404, "BLOB_UPLOAD_UNKNOWN")))
    push(store, target.server.host, image(store, LARGE))
    assert target.blobs[str(Digest.of(LARGE))] == LARGE


def test_a_commit_whose_answer_was_lost(store: ContentStore, target: FakeTarget) -> None:
    target.spoil("PUT /v2/app/blobs", status(504), status(504))
    push(store, target.server.host, image(store, LARGE))
    assert target.blobs.keys() >= {str(Digest.of(LARGE)), str(Digest.of(SMALL))}
    assert len(target.requests("PUT /v2/app/blobs")) == 2


@pytest.mark.parametrize("code", [429, 500, 503])
@pytest.mark.parametrize("part", ["HEAD", "POST", "PATCH", "PUT /v2/app/blobs", "PUT /v2/app/man"])
def test_a_busy_registry_is_asked_again(
    store: ContentStore, target: FakeTarget, part: str, code: int
) -> None:
    target.spoil(part, status(code, {"Retry-After": "0"}))
    push(store, target.server.host, image(store, LARGE))
    assert "1" in target.manifests


def test_gives_up_on_a_registry_that_stays_busy(store: ContentStore, target: FakeTarget) -> None:
    target.spoil("PATCH", *[answer(error(503, "UNAVAILABLE"))] * 20)
    target.uploads = _Forgetful()
    with pytest.raises(Unavailable, match="gave up"):
        push(store, target.server.host, image(store, LARGE))
    assert target.manifests == {}


class _Forgetful(dict[str, bytes]):
    """Uploads that never grow."""

    def __setitem__(self, key: str, value: bytes) -> None:
        super().__setitem__(key, b"")


def with_source(store: ContentStore, host: str, data: bytes, repositories: str) -> None:
    labels = {distribution_source(host): repositories}
    put_blob(store, data, labels)


def test_a_blob_is_mounted(store: ContentStore, target: FakeTarget) -> None:
    host = target.server.host
    with_source(store, host, LARGE, "app,base/image")
    target.elsewhere["base/image", str(Digest.of(LARGE))] = LARGE
    pushed = push(store, host, image(store, LARGE))
    assert pushed.how[Digest.of(LARGE)] == "mounted"
    assert target.requests("PATCH") == []
    assert store.info(Digest.of(LARGE)).labels[distribution_source(host)] == "app,base/image"


def test_a_mount_at_an_endpoint_that_wants_the_namespace(
    store: ContentStore, target: FakeTarget
) -> None:
    with_source(store, "far.example", LARGE, "base")
    target.elsewhere["base", str(Digest.of(LARGE))] = LARGE
    endpoint = HostConfig("m", target.server.host, plain_http=True, namespace="far.example")
    pushed = push(store, "far.example", image(store, LARGE), hosts=lambda host: (endpoint,))
    assert pushed.how[Digest.of(LARGE)] == "mounted"
    (mount,) = target.requests("mount=")
    assert parse_qs(urlsplit(mount.path).query)["ns"] == ["far.example"]


@pytest.mark.parametrize("code", [202, 400, 403, 405])
def test_a_mount_that_is_refused(store: ContentStore, target: FakeTarget, code: int) -> None:
    """202 begins an upload instead, which is used; after all else a plain one begins."""
    host = target.server.host
    with_source(store, host, LARGE, "base")
    if code != 202:
        target.spoil("mount=", status(code))
    pushed = push(store, host, image(store, LARGE))
    assert pushed.how[Digest.of(LARGE)] == "uploaded"
    assert len(target.requests("mount=")) == 1
    assert len(target.requests("POST")) == (2 if code == 202 else 3)


def test_a_source_of_another_host_is_no_mount(store: ContentStore, target: FakeTarget) -> None:
    with_source(store, "other.example", LARGE, "base")
    push(store, target.server.host, image(store, LARGE))
    assert target.requests("mount=") == []


def test_an_upload_elsewhere_gets_no_credentials(store: ContentStore, target: FakeTarget) -> None:
    """An absolute Location on another origin is followed, but never with our password."""
    with FakeTarget() as storage:
        storage.uploads = target.uploads
        storage.blobs = target.blobs
        target.prefix = storage.prefix = storage.server.url
        want = Reply(401, {"WWW-Authenticate": 'Basic realm="x"'})
        target.spoil("", answer(want))
        given = GivenCredentials(target.server.host, Credentials("user", "secret"))
        push(store, target.server.host, image(store, LARGE), credentials=given)
        assert any("authorization" in seen.headers for seen in target.server.seen)
        assert len(storage.requests("PATCH")) == 4
        assert not any("authorization" in seen.headers for seen in storage.server.seen)
        storage.spoil("PATCH", answer(want))
        with pytest.raises(PermissionDenied):
            push(store, target.server.host, image(store, LARGE[1:]), credentials=given)
        assert not any("authorization" in seen.headers for seen in storage.server.seen)


@pytest.mark.parametrize(
    ("part", "reply", "kind"),
    [
        ("POST", Reply(202), Unavailable),
        ("POST", Reply(202, {"Location": "ftp://x/y"}), Unavailable),
        ("POST", error(403, "DENIED"), PermissionDenied),
        ("PUT /v2/app/blobs", error(400, "DIGEST_INVALID"), Unavailable),
        ("PUT /v2/app/man", error(400, "MANIFEST_INVALID"), Unavailable),
        ("PUT", Reply(307, {"Location": "http://127.0.0.1:1/"}), Unavailable),
        (
            "PUT /v2/app/man",
            Reply(201, {"Docker-Content-Digest": f"sha256:{'0' * 64}"}),
            DigestMismatch,
        ),
        ("HEAD /v2/app/blobs", Reply(200, {}, b"another size"), DigestMismatch),
    ],
    ids=["no-place", "ftp", "denied", "bad-blob", "bad-manifest", "redirect", "digest", "size"],
)
def test_refusals(
    store: ContentStore,
    census: None,
    target: FakeTarget,
    part: str,
    reply: Reply,
    kind: type[SnapcoreError],
) -> None:
    target.spoil(part, answer(reply))
    with pytest.raises(kind):
        push(store, target.server.host, image(store, LARGE))
    key = distribution_source(target.server.host)
    assert not any(key in info.labels for info in store.walk())


def test_another_manifest_under_the_tag_afterwards(store: ContentStore, target: FakeTarget) -> None:
    def swapped(request: Seen, reply: Reply) -> Reply:
        target.manifests["1"] = (OCI_MANIFEST, b"something else")
        return reply

    target.spoil("PUT /v2/app/man", swapped)
    with pytest.raises(DigestMismatch, match="'1'"):
        push(store, target.server.host, image(store, LARGE))


def test_a_name_with_another_digest(store: ContentStore, target: FakeTarget) -> None:
    with pytest.raises(InvalidArgument):
        push(store, target.server.host, image(store, LARGE), f"app@sha256:{'0' * 64}")
    assert target.server.seen == []


@contextmanager
def real(
    tmp_path: Path, users: dict[str, str] | None = None, tokens: TokenServer | None = None
) -> Iterator[str]:
    with docker_registry(tmp_path / "storage", tmp_path, users=users, tokens=tokens) as host:
        yield host


def login(kind: str) -> Callable[[str], CredentialSource]:
    if kind == "open":
        return lambda host: anonymous
    return lambda host: GivenCredentials(host, Credentials("user", "secret"))


@pytest.mark.parametrize("kind", ["open", "htpasswd", "token"])
def test_a_real_registry(store: ContentStore, tmp_path: Path, kind: str) -> None:
    """Chunks, a mount into a second repository, and what skopeo then sees."""
    users = {"user": "secret"}
    with (
        TokenServer(users) as tokens,
        real(
            tmp_path,
            users if kind == "htpasswd" else None,
            tokens if kind == "token" else None,
        ) as host,
    ):
        credentials = login(kind)(host)
        wanted = image(store, LARGE)
        assert push(store, host, wanted, "one/app:1", credentials).how[Digest.of(LARGE)] == (
            "uploaded"
        )
        second = push(store, host, wanted, "two/app:1", credentials)
        assert second.how[Digest.of(LARGE)] == "mounted"
        assert push(store, host, wanted, "two/app:2", credentials).how[Digest.of(LARGE)] == "exists"
        flags = [] if kind == "open" else ["--creds", "user:secret"]
        raw = run_tool(
            "skopeo", "inspect", "--raw", "--tls-verify=false", *flags,
            f"docker://{host}/two/app:2",
        )  # fmt: skip
        assert Digest.of(raw.encode()) == wanted.root.digest
        if kind != "open":
            with pytest.raises(PermissionDenied):
                push(store, host, image(store, LARGE + b"x"), "one/app:1")
