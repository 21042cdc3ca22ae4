"""Requests through proxies: plain ones, and tunnels to a registry with TLS."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio
from support.faults import HttpServer, Reply, Seen
from support.registry import Identity
from support.relays import ConnectProxy, TcpServer, trickle

from snapcore.errors import PermissionDenied, Unavailable
from snapcore.registry import Proxies, Request, Timeouts, Tls, Transport, run_blocking
from snapcore.registry.failures import Transient

NAME = "registry.invalid"
SECRET = "Bearer s3cret"
QUICK = Timeouts(connect=0.1, read=0.1)
BASIC = f"Basic {base64.b64encode(b'u:p@ss').decode()}"


@pytest.fixture(scope="module")
def identity() -> Identity:
    """A registry's, which no system trusts."""
    return Identity.make(NAME)


@pytest.fixture
def trust(identity: Identity, tmp_path: Path) -> Tls:
    return Tls((str(identity.write(tmp_path)[0]),))


def fine(request: Seen) -> Reply:
    return Reply(200, {}, request.path.encode())


@contextmanager
def through(proxy: str = "", no_proxy: tuple[str, ...] = ()) -> Iterator[Transport]:
    transport = Transport(proxies=Proxies(proxy, proxy, no_proxy))
    try:
        yield transport
    finally:
        transport.close()


def get(transport: Transport, url: str, tls: Tls | None = None) -> bytes:
    request = Request("GET", url, authorization=SECRET, tls=tls or Tls())
    with transport.send(request) as response:
        assert response.status == 200
        return response.read_all(1 << 16, "answer")


def test_plain_requests_go_through_their_proxy() -> None:
    """Loopback is never proxied, so the target is a name that does not resolve."""
    with (
        HttpServer(lambda request: Reply(200, {}, b"by proxy")) as proxy,
        through(f"http://u:p%40ss@{proxy.host}") as transport,
    ):
        assert get(transport, f"http://{NAME}/v2/") == b"by proxy"
        seen = proxy.seen[0]
    assert seen.path == f"http://{NAME}/v2/"
    assert seen.headers["proxy-authorization"] == BASIC
    assert seen.headers["authorization"] == SECRET


@pytest.mark.parametrize("userinfo", ["", "u:p%40ss@"], ids=["open", "with credentials"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_tunnel(
    census: None, identity: Identity, trust: Tls, tmp_path: Path, scheme: str, userinfo: str
) -> None:
    """TLS is with the registry: the proxy sees a name, and nothing of the request."""
    context = identity.server_context(tmp_path)
    with (
        HttpServer(fine, context) as registry,
        ConnectProxy(
            {f"{NAME}:443": registry.host},
            BASIC if userinfo else "",
            context if scheme == "https" else None,
        ) as proxy,
        through(f"{scheme}://{userinfo}{proxy.host}") as transport,
    ):
        for path in ("/v2/a", "/v2/b"):
            assert get(transport, f"https://{NAME}{path}", trust) == path.encode()
        assert proxy.seen == [(f"{NAME}:443", BASIC if userinfo else "")]
        assert [seen.headers["authorization"] for seen in registry.seen] == [SECRET] * 2
        assert all("proxy-authorization" not in seen.headers for seen in registry.seen)
        assert len({seen.client for seen in registry.seen}) == 1


def test_the_certificate_behind_a_tunnel_must_be_trusted(
    identity: Identity, tmp_path: Path
) -> None:
    with (
        HttpServer(fine, identity.server_context(tmp_path)) as registry,
        ConnectProxy({f"{NAME}:443": registry.host}) as proxy,
        through(f"http://{proxy.host}") as transport,
    ):
        with pytest.raises(Unavailable, match=f"{NAME}.*not trusted"):
            get(transport, f"https://{NAME}/v2/")
        assert registry.seen == []
        assert get(transport, f"https://{NAME}/v2/", Tls(skip_verify=True)) == b"/v2/"


def test_the_certificate_of_a_proxy_must_be_trusted_whatever_the_registry_may(
    identity: Identity, tmp_path: Path
) -> None:
    with (
        ConnectProxy({}, tls=identity.server_context(tmp_path)) as proxy,
        through(f"https://u:p%40ss@{proxy.host}") as transport,
    ):
        with pytest.raises(Unavailable, match="not trusted"):
            get(transport, f"https://{NAME}/v2/", Tls(skip_verify=True))
        assert proxy.seen == []


@pytest.mark.parametrize("item", [NAME, ".invalid", f"{NAME}:443", "*"])
def test_no_proxy(item: str) -> None:
    """The name is looked up by ourselves then, and there is none."""
    with (
        ConnectProxy({}) as proxy,
        through(f"http://{proxy.host}", (item,)) as transport,
    ):
        with pytest.raises(Unavailable, match="no such host"):
            get(transport, f"https://{NAME}/v2/")
        assert proxy.seen == []


@pytest.mark.parametrize(
    ("authorization", "kind", "message"),
    [("", Transient, "HTTP 502"), (BASIC, PermissionDenied, "proxy.*credentials.*HTTP 407")],
)
def test_what_a_proxy_refuses(authorization: str, kind: type[Exception], message: str) -> None:
    with (
        ConnectProxy({}, authorization) as proxy,
        through(f"http://{'u:wr0ng@' if authorization else ''}{proxy.host}") as transport,
    ):
        with pytest.raises(kind, match=message) as refused:
            get(transport, "https://elsewhere.example/v2/")
        assert [name for name, _ in proxy.seen] == ["elsewhere.example:443"]
    assert "elsewhere.example" in str(refused.value)
    assert "wr0ng" not in str(refused.value)


def test_a_proxy_that_is_not_there_is_named_as_the_cause() -> None:
    with through("http://u:s3cret@127.0.0.1:1") as transport:
        with pytest.raises(Unavailable, match="proxy") as refused:
            get(transport, f"https://{NAME}/v2/")
        assert "s3cret" not in str(refused.value)


def test_a_proxys_answer_that_trickles_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapcore.registry.head.HEAD_SECONDS", 0.2)
    begin = b"HTTP/1.1 200 OK\r\nX: "
    with TcpServer(trickle(begin, lambda: server)) as server:
        transport = Transport(proxies=Proxies(https=f"http://{server.host}"), timeouts=QUICK)
        with pytest.raises(Transient, match="in time"):
            get(transport, f"https://{NAME}/v2/")
        transport.close()


@dataclass(frozen=True, slots=True)
class Silent:
    """A connection that somebody has taken and never answers."""

    reached: trio.Event
    server: TcpServer

    @classmethod
    def make(cls) -> Silent:
        """Make one, in a trio run."""
        reached, token = trio.Event(), trio.lowlevel.current_trio_token()

        def serve(connection: socket.socket) -> None:
            connection.recv(1, socket.MSG_PEEK)
            token.run_sync_soon(reached.set)
            server.closing.wait()

        server = TcpServer(serve)
        return cls(reached, server)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("behind", [False, True], ids=["proxy", "registry behind it"])
async def test_a_cancel_ends_a_silent_handshake(
    identity: Identity, tmp_path: Path, scheme: str, behind: bool
) -> None:
    silent = Silent.make()
    context = identity.server_context(tmp_path) if scheme == "https" else None
    with (
        silent.server,
        ConnectProxy({f"{NAME}:443": silent.server.host}, tls=context) as proxy,
        through(f"{scheme}://{proxy.host if behind else silent.server.host}") as transport,
    ):
        tls = Tls((str(tmp_path / "cert.pem"),)) if context else Tls()
        await cancelled_once(silent.reached, transport, tls)


async def test_a_cancel_ends_the_wait_for_an_answer_in_two_tunnels(
    identity: Identity, trust: Tls, tmp_path: Path
) -> None:
    reached, token = trio.Event(), trio.lowlevel.current_trio_token()

    def say_nothing(request: Seen) -> Reply:
        token.run_sync_soon(reached.set)
        registry.wait_until_closing()
        return Reply()

    context = identity.server_context(tmp_path)
    with (
        HttpServer(say_nothing, context) as registry,
        ConnectProxy({f"{NAME}:443": registry.host}, tls=context) as proxy,
        through(f"https://{proxy.host}") as transport,
    ):
        await cancelled_once(reached, transport, trust)


async def cancelled_once(reached: trio.Event, transport: Transport, tls: Tls) -> None:
    """Send a request, cancel it once it is where it waits for ever, and see it end soon."""
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_blocking, partial(get, transport, f"https://{NAME}/v2/", tls))
        await reached.wait()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began < Timeouts().connect / 2
