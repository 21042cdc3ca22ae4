"""Redirects, TLS, and bounds on what a peer may send."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.clients import STALLED
from support.faults import HttpServer, Reply, Seen
from support.registry import Identity
from support.relays import TcpServer, trickle

from snapcore.errors import InvalidArgument, RefusedInput, Unavailable
from snapcore.registry import ClientCertificate, Request, Tls, Transport
from snapcore.registry.failures import Transient
from snapcore.registry.transport import MAX_REDIRECTS, USER_AGENT

SECRET = "Bearer s3cret"


@pytest.fixture
def transport() -> Iterator[Transport]:
    opened = Transport()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity.make()


def to(url: str, status: int = 307) -> Callable[[Seen], Reply]:
    return lambda _: Reply(status, {"Location": url}, b"moved")


def fine(request: Seen) -> Reply:
    return Reply(200, {}, request.path.encode())


def get(transport: Transport, url: str, authorization: str = "") -> bytes:
    with transport.send(Request("GET", url, authorization=authorization)) as response:
        assert response.status == 200
        return response.read_all(1 << 16, "answer")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_credentials_stay_with_their_origin(
    transport: Transport, status: int, census: None
) -> None:
    """Another port of the same machine is another origin."""
    with HttpServer(fine) as elsewhere, HttpServer(to(f"{elsewhere.url}/x", status)) as registry:
        assert get(transport, registry.url, authorization=SECRET) == b"/x"
        assert registry.seen[0].headers["authorization"] == SECRET
        assert "authorization" not in elsewhere.seen[0].headers
        assert elsewhere.seen[0].headers["user-agent"] == USER_AGENT
        transport.close()


def test_credentials_do_not_come_back_after_a_detour(transport: Transport) -> None:
    def answer(request: Seen) -> Reply:
        return fine(request) if request.path == "/end" else to(f"{elsewhere.url}/")(request)

    def back(request: Seen) -> Reply:
        return to(f"{registry.url}/end")(request)

    with HttpServer(back) as elsewhere, HttpServer(answer) as registry:
        assert get(transport, f"{registry.url}/begin", authorization=SECRET) == b"/end"
        assert "authorization" not in registry.seen[1].headers


def test_a_step_inside_the_origin_keeps_credentials(transport: Transport) -> None:
    def answer(request: Seen) -> Reply:
        return fine(request) if request.path == "/b" else to("b")(request)

    with HttpServer(answer) as registry:
        assert get(transport, f"{registry.url}/a", authorization=SECRET) == b"/b"
        assert [seen.headers["authorization"] for seen in registry.seen] == [SECRET] * 2


def test_a_loop_ends(transport: Transport) -> None:
    with HttpServer(to("/again?token=s3cret")) as registry:
        with pytest.raises(Unavailable, match=f"more than {MAX_REDIRECTS}") as refused:
            get(transport, f"{registry.url}/begin")
        assert len(registry.seen) == MAX_REDIRECTS + 1
        assert "s3cret" not in str(refused.value)


def test_a_post_is_not_redirected(transport: Transport) -> None:
    with HttpServer(fine) as elsewhere, HttpServer(to(elsewhere.url)) as registry:
        with pytest.raises(Unavailable, match="POST"):
            transport.send(Request("POST", registry.url, body=b"s3cret"))
        assert elsewhere.seen == []


@pytest.mark.parametrize(
    "location",
    ["ftp://h/x", "file:///etc/passwd", "http://u:s3cret@127.0.0.1/", "http://h:99999/"],
)
def test_unusable_locations_are_refused(transport: Transport, location: str) -> None:
    with HttpServer(to(location)) as registry:
        with pytest.raises(Unavailable, match="unusable redirect") as refused:
            get(transport, registry.url)
        assert "s3cret" not in str(refused.value)


def test_from_https_to_http_is_refused(
    transport: Transport, identity: Identity, tmp_path: Path
) -> None:
    tls = Tls(ca_files=(str(identity.write(tmp_path)[0]),))
    with (
        HttpServer(fine) as plain,
        HttpServer(to(f"{plain.url}/x"), identity.server_context(tmp_path)) as registry,
        pytest.raises(Unavailable, match="from https to http"),
    ):
        transport.send(Request("GET", registry.url, tls=tls))
    assert plain.seen == []
    transport.close()


def test_tls_with_a_given_authority(
    transport: Transport, identity: Identity, tmp_path: Path
) -> None:
    certificate = str(identity.write(tmp_path)[0])
    with HttpServer(fine, identity.server_context(tmp_path)) as registry:
        with pytest.raises(Unavailable, match="not trusted") as refused:
            get(transport, registry.url)
        assert not isinstance(refused.value, Transient)
        for tls in (Tls(ca_files=(certificate,)), Tls(skip_verify=True)):
            with transport.send(Request("GET", f"{registry.url}/x", tls=tls)) as response:
                assert response.read_all(10, "answer") == b"/x"
        transport.close()


def test_tls_with_a_plain_server_says_so(transport: Transport) -> None:
    with HttpServer(fine) as registry, pytest.raises(Unavailable, match="does not speak TLS"):
        get(transport, registry.url.replace("http:", "https:"))


def test_nobody_listens(transport: Transport) -> None:
    with HttpServer(fine) as registry:
        url = registry.url
    with pytest.raises(Transient, match="Connection refused"):
        get(transport, url)


def test_an_unknown_host_is_not_tried_again(transport: Transport) -> None:
    with pytest.raises(Unavailable, match="no such host") as refused:
        get(transport, "http://registry.invalid/v2/")
    assert not isinstance(refused.value, Transient)


def test_silence_before_the_head_ends() -> None:
    transport = Transport(timeouts=STALLED)

    def silent(request: Seen) -> Reply:
        registry.wait_until_closing()
        return fine(request)

    with HttpServer(silent) as registry, pytest.raises(Transient, match="not answer in time"):
        get(transport, registry.url)
    transport.close()


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_are_bounded(transport: Transport, chunked: bool) -> None:
    with (
        HttpServer(lambda _: Reply(200, {}, b"x" * 1001, chunked=chunked)) as registry,
        transport.send(Request("GET", registry.url)) as response,
        pytest.raises(RefusedInput, match="larger than 1000"),
    ):
        response.read_all(1000, "answer")


def test_connections_are_used_again(transport: Transport) -> None:
    with HttpServer(fine) as registry:
        for _ in range(3):
            get(transport, registry.url)
        connections = {seen.client for seen in registry.seen}
    assert len(connections) == 1


def test_headers_cannot_be_smuggled(transport: Transport) -> None:
    with HttpServer(fine) as registry:
        with pytest.raises(Unavailable):
            get(transport, f"{registry.url}/a b\r\nX: y")
        assert registry.seen == []


def test_unusable_authorities_are_the_callers_mistake(transport: Transport) -> None:
    with pytest.raises(InvalidArgument, match="absent"):
        transport.send(Request("GET", "https://h/", tls=Tls(ca_files=("/absent",))))


def test_authorization_is_not_shown() -> None:
    assert "s3cret" not in repr(Request("POST", "https://h/", authorization=SECRET, body=b"s3cret"))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "begin",
    [
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1;",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: ",
    ],
    ids=["head", "size of a chunk", "trailer"],
)
def test_what_trickles_ends(
    monkeypatch: pytest.MonkeyPatch, identity: Identity, tmp_path: Path, begin: bytes, tls: bool
) -> None:
    """Each byte comes in time; the whole does not."""
    monkeypatch.setattr("snapcore.registry.head.HEAD_SECONDS", 0.2)
    transport = Transport(timeouts=STALLED)
    context = identity.server_context(tmp_path) if tls else None
    with TcpServer(trickle(begin, lambda: server), context) as server:
        request = Request(
            "GET", f"http{'s' if tls else ''}://{server.host}/", tls=Tls(skip_verify=True)
        )
        with (
            pytest.raises(Transient, match="not answer in time"),
            transport.send(request) as response,
        ):
            response.read_all(100, "answer")
    transport.close()


def test_own_headers_stay_with_their_origin(transport: Transport) -> None:
    with HttpServer(fine) as elsewhere, HttpServer(to(f"{elsewhere.url}/x")) as registry:
        request = Request("GET", registry.url, own_headers=(("X-Key", SECRET),))
        transport.send(request).close()
        assert registry.seen[0].headers["x-key"] == SECRET
        assert "x-key" not in elsewhere.seen[0].headers


def test_a_certificate_of_ours_is_shown_to_its_origin_only(
    transport: Transport, identity: Identity, tmp_path: Path
) -> None:
    certificate, key = (str(path) for path in identity.write(tmp_path))
    context = identity.server_context(tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate)
    ours = Tls((certificate,), clients=(ClientCertificate(certificate, key),))
    with (
        HttpServer(fine, context) as strict,
        HttpServer(to(f"{strict.url}/x"), identity.server_context(tmp_path)) as registry,
    ):
        transport.send(Request("GET", strict.url, tls=ours)).close()
        with pytest.raises(Unavailable):
            transport.send(Request("GET", registry.url, tls=ours))
        with pytest.raises(Unavailable):
            transport.send(Request("GET", strict.url, tls=Tls((certificate,))))
        assert len(strict.seen) == 1
    transport.close()


def test_an_encrypted_or_absent_key_is_named_and_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("garbage")
    tls = Tls(clients=(ClientCertificate(str(tmp_path / "c.pem"), "/absent.key"),))
    with pytest.raises(InvalidArgument, match=r"c\.pem.*absent\.key"):
        tls.context()
