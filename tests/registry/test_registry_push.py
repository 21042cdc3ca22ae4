"""Pushing: chunks, mounts, tags last, and a registry that is not believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from support.content import put_blob
from support.faults import Reply, Seen, answer, error, status
from support.images import run_tool
from support.pushes import LARGE, image, push, real, record, stored
from support.registry import TokenServer
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
from snapcore.oci import Digest
from snapcore.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from snapcore.registry import (
    Credentials,
    CredentialSource,
    DefaultHosts,
    GivenCredentials,
    HostConfig,
    HostsDirectories,
    Outgoing,
    anonymous,
)


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
