"""Pushing: uploads that resume, mounts, tags last, and a registry that is not believed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
from support.clients import opened
from support.content import put_blob
from support.faults import Reply, Seen, answer, error, status
from support.images import run_tool
from support.registry import TokenServer, docker_registry
from support.relays import Relay
from support.targets import FakeTarget

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
    DefaultHosts,
    GivenCredentials,
    HostConfig,
    HostsDirectories,
    HostsResolver,
    Outgoing,
    PushListener,
    anonymous,
)
from snapcore.unpack import single_error

CHUNK: Final = 1000
LARGE: Final = bytes(range(256)) * 14
SMALL: Final = b"{}"


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


def test_a_connection_that_breaks_within_a_chunk(store: ContentStore, target: FakeTarget) -> None:
    """What has come of the chunk is not sent again: the registry says how much that is."""
    with Relay(target.server.host) as relay:
        relay.break_after(b"PATCH /v2", 900)
        push(store, relay.host, image(store, LARGE))
        sent = sum(len(seen.body) for seen in target.requests("PATCH"))
    assert target.blobs[str(Digest.of(LARGE))] == LARGE
    begin = target.requests("PATCH")[1].headers["content-range"].partition("-")[0]
    assert 0 < int(begin) < CHUNK
    assert sent == len(LARGE)


def test_a_real_registry_behind_a_connection_that_breaks(
    store: ContentStore, tmp_path: Path
) -> None:
    """Between two chunks it knows how far it came; within one it forgets all, and is told anew."""
    with real(tmp_path) as host, Relay(host) as relay:
        relay.break_after(b"Content-Range: 1000-1999", 0)
        relay.break_after(b"Content-Range: 2000-2999", 600)
        wanted = image(store, LARGE)
        assert push(store, relay.host, wanted).how[Digest.of(LARGE)] == "uploaded"
        starts = [line.partition("-")[0] for line in relay.headers("Content-Range")]
        # What it says after the second depends on whether it has noticed yet.
        assert starts[:4] == ["0", "1000", "1000", "2000"]
        raw = run_tool("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{host}/app:1")
        assert Digest.of(raw.encode()) == wanted.root.digest


def test_gives_up_on_a_registry_that_always_forgets(
    store: ContentStore, target: FakeTarget
) -> None:
    gone = answer(error(404, "BLOB_UPLOAD_UNKNOWN"))
    target.spoil("PATCH", *[gone] * 100)
    with pytest.raises(Unavailable, match="forgets the upload"):
        push(store, target.server.host, image(store, LARGE))
    assert len(target.requests("PATCH")) < 10


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


def cancelled(store: ContentStore, host: str, stop: Callable[[int], bool]) -> None:
    """Push, and cancel that once the config is there and `stop` says so of a number of bytes."""

    others = threading.Event()

    async def run() -> bool:
        with trio.CancelScope() as scope, opened(store) as client:

            def sent(blob: Descriptor, offset: int) -> None:
                if stop(offset):
                    assert others.wait(10)
                    trio.from_thread.run_sync(scope.cancel)

            listener = PushListener(lambda blob: None, sent, lambda blob, how: others.set())
            wanted = image(store, LARGE)
            await client.push(wanted, Reference.parse(f"{host}/app:1"), listener, CHUNK)
        return scope.cancelled_caught

    assert trio.run(run)


def test_a_cancel_leaves_no_upload(store: ContentStore, census: None, target: FakeTarget) -> None:
    cancelled(store, target.server.host, lambda offset: offset == CHUNK)
    assert target.uploads == {}
    assert len(target.requests("DELETE")) == 1
    assert target.manifests == {}


def test_a_cancel_leaves_no_upload_at_a_real_registry(
    store: ContentStore, census: None, tmp_path: Path
) -> None:
    with real(tmp_path) as host:
        cancelled(store, host, lambda offset: offset == CHUNK)
        # It forgets its own hash's state, which is a few bytes.
        assert list(tmp_path.glob("storage/**/_uploads/*/data")) == []


async def test_a_cancel_within_a_chunk(store: ContentStore, target: FakeTarget) -> None:
    """The connection is cut at once, and the upload ended over another one."""
    reached, token = trio.Event(), trio.lowlevel.current_trio_token()

    def hold(request: Seen, reply: Reply) -> Reply:
        token.run_sync_soon(reached.set)
        target.server.wait_until_closing()
        return reply

    target.spoil("PATCH", hold)
    listener = PushListener(lambda blob: None, lambda blob, offset: None, lambda blob, how: None)
    destination = Reference.parse(f"{target.server.host}/app:1")
    with opened(store) as client:
        async with trio.open_nursery() as nursery:
            wanted = image(store, LARGE)
            nursery.start_soon(client.push, wanted, destination, listener, CHUNK)
            await reached.wait()
            nursery.cancel_scope.cancel()
    assert target.requests("DELETE")
    assert target.uploads == {}


def test_a_blob_that_fails_ends_the_uploads_of_the_others(
    store: ContentStore, target: FakeTarget
) -> None:
    target.spoil("PUT /v2/app/blobs", answer(error(403, "DENIED")))
    with pytest.raises(PermissionDenied):
        push(store, target.server.host, image(store, LARGE))
    assert target.uploads == {}


def test_a_registry_that_takes_no_cancel_does_not_hide_the_error(
    store: ContentStore, target: FakeTarget
) -> None:
    target.spoil("PUT /v2/app/blobs", answer(error(403, "DENIED")))
    target.spoil("DELETE", *[status(405)] * 2)
    with pytest.raises(PermissionDenied):
        push(store, target.server.host, image(store, LARGE))


def test_of_several_hosts_the_first_that_takes_pushes(
    store: ContentStore, target: FakeTarget, tmp_path: Path
) -> None:
    with FakeTarget() as reader, FakeTarget() as second, FakeTarget() as upstream:
        directory = tmp_path / "registry.invalid"
        directory.mkdir()
        (directory / "hosts.toml").write_text(
            f'server = "{upstream.server.url}"\n'
            f'[host."{reader.server.url}"]\ncapabilities = ["pull", "resolve"]\n'
            f'[host."{target.server.url}"]\ncapabilities = ["push"]\n'
            f'[host."{second.server.url}"]\n'
        )
        hosts = HostsDirectories((str(tmp_path),), DefaultHosts().endpoint)
        wanted = image(store, LARGE)
        push(store, "registry.invalid", wanted, hosts=hosts)
        assert "1" in target.manifests
        target.spoil("HEAD", *[answer(error(403, "DENIED"))] * 9)
        # Nobody else stands in for it: a push must not end somewhere.
        with pytest.raises(PermissionDenied):
            push(store, "registry.invalid", image(store, LARGE + b"x"), hosts=hosts)
        assert [each.server.seen for each in (reader, second, upstream)] == [[], [], []]
    key = distribution_source("registry.invalid")
    assert store.info(wanted.root.digest).labels[key] == "app"


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
