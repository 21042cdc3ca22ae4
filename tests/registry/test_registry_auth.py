"""Challenges, tokens, and how often they are asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest
from support.faults import HttpServer, Reply, Seen

from snapcore.errors import PermissionDenied, Unavailable
from snapcore.registry import (
    Authorizer,
    Credentials,
    CredentialSource,
    HostConfig,
    Request,
    Transport,
    anonymous,
)
from snapcore.registry.failures import Transient

SCOPE = "repository:lib/app:pull"
NAME = "registry.example"


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Tokens:
    """A registry and a token server in one; counts, and accepts only tokens it gave."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.accepted: set[str] = set()
        self.answer: dict[str, object] = {"expires_in": 300}
        self.service = "reg"
        self.server = HttpServer(self._reply)
        self.hold: Callable[[], object] = lambda: None
        self.challenged = threading.Semaphore(0)

    @property
    def asked(self) -> list[Seen]:
        return [seen for seen in self.server.seen if seen.path.startswith("/token")]

    def _reply(self, request: Seen) -> Reply:
        if request.path.startswith("/token"):
            self.hold()
            token = f"t{len(self.given)}"
            self.given.append(token)
            self.accepted.add(token)
            return Reply(200, {}, json.dumps({"token": token, **self.answer}).encode())
        if request.headers.get("authorization", "").removeprefix("Bearer ") in self.accepted:
            return Reply(200, {}, b"content")
        self.challenged.release()
        challenge = f'Bearer realm="{self.server.url}/token",service="{self.service}"'
        return Reply(401, {"WWW-Authenticate": f'{challenge},scope="{SCOPE}"'}, b"{}")


@pytest.fixture
def transport() -> Iterator[Transport]:
    opened = Transport()
    yield opened
    opened.close()


@pytest.fixture
def tokens() -> Iterator[Tokens]:
    tokens = Tokens()
    with tokens.server:
        yield tokens


def host_of(server: HttpServer) -> HostConfig:
    return HostConfig(NAME, server.host, plain_http=True)


def ask(authorizer: Authorizer, server: HttpServer, scope: str = SCOPE) -> bytes:
    request = Request("GET", f"{server.url}/v2/lib/app/blobs/x")
    with authorizer.send(request, host_of(server), scope) as response:
        assert response.status == 200
        return response.read_all(100, "answer")


def fixed(credentials: Credentials) -> CredentialSource:
    return lambda host: credentials if host == NAME else None


def test_a_token_is_used_until_it_ends(transport: Transport, tokens: Tokens) -> None:
    clock = Clock()
    authorizer = Authorizer(transport, anonymous, clock)
    for _ in range(3):
        assert ask(authorizer, tokens.server) == b"content"
    assert len(tokens.asked) == 1
    query = parse_qs(urlsplit(tokens.asked[0].path).query)
    assert query == {"service": ["reg"], "scope": [SCOPE]}
    clock.now += 269
    ask(authorizer, tokens.server)
    assert len(tokens.asked) == 1
    clock.now += 2
    ask(authorizer, tokens.server)
    assert len(tokens.asked) == 2
    # An ended token is not even shown: the second challenge was for a bare request.
    bare = [seen for seen in tokens.server.seen if "authorization" not in seen.headers]
    assert len([seen for seen in bare if seen.path.startswith("/v2/")]) == 2


@pytest.mark.parametrize(("answer", "lifetime"), [({}, 60), ({"expires_in": 5}, 60)])
def test_lifetimes_of_less_than_a_minute_are_a_minute(
    transport: Transport, tokens: Tokens, answer: dict[str, object], lifetime: float
) -> None:
    clock = Clock()
    tokens.answer = answer
    authorizer = Authorizer(transport, anonymous, clock)
    ask(authorizer, tokens.server)
    clock.now += lifetime * 0.9 - 1
    ask(authorizer, tokens.server)
    assert len(tokens.asked) == 1
    clock.now += 2
    ask(authorizer, tokens.server)
    assert len(tokens.asked) == 2


def test_a_revoked_token_is_renewed_once(transport: Transport, tokens: Tokens) -> None:
    authorizer = Authorizer(transport)
    ask(authorizer, tokens.server)
    tokens.accepted.clear()
    ask(authorizer, tokens.server)
    assert len(tokens.asked) == 2


def test_a_second_401_is_the_answer(transport: Transport) -> None:
    def answer(request: Seen) -> Reply:
        if request.path.startswith("/token"):
            return Reply(200, {}, b'{"token": "s3cret"}')
        return Reply(401, {"WWW-Authenticate": f'Bearer realm="{server.url}/token"'})

    with HttpServer(answer) as server:
        authorizer = Authorizer(transport)
        with pytest.raises(PermissionDenied, match=NAME) as refused:
            ask(authorizer, server)
        assert [seen.path.partition("?")[0] for seen in server.seen].count("/token") == 1
        assert "s3cret" not in str(refused.value)
        # The refused token is forgotten: the next request begins anew.
        with pytest.raises(PermissionDenied):
            ask(authorizer, server)
        assert "authorization" not in server.seen[3].headers


def test_each_scope_has_its_own_token(transport: Transport, tokens: Tokens) -> None:
    authorizer = Authorizer(transport)
    ask(authorizer, tokens.server)
    ask(authorizer, tokens.server, "repository:lib/other:pull")
    scopes = [parse_qs(urlsplit(seen.path).query)["scope"] for seen in tokens.asked]
    assert scopes == [[SCOPE], [SCOPE, "repository:lib/other:pull"]]


def test_threads_share_one_token_request(transport: Transport, tokens: Tokens) -> None:
    arrived = threading.Barrier(4, timeout=10)
    authorizer = Authorizer(transport)

    def wait_for_all() -> None:
        # All four have been challenged by the time the first token is given.
        for _ in range(4):
            assert tokens.challenged.acquire(timeout=10)

    tokens.hold = wait_for_all

    def work(_: int) -> bytes:
        arrived.wait()
        return ask(authorizer, tokens.server)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [b"content"] * 4
    assert len(tokens.asked) == 1


def test_credentials_go_to_the_token_server_only(transport: Transport, tokens: Tokens) -> None:
    credentials = Credentials("alice", "s3cret")
    authorizer = Authorizer(transport, fixed(credentials))
    ask(authorizer, tokens.server)
    shown = [seen.headers.get("authorization", "") for seen in tokens.server.seen]
    assert shown == ["", credentials.basic(), "Bearer t0"]
    assert "account=alice" in tokens.asked[0].path


def test_credentials_of_one_host_are_not_another_hosts(
    transport: Transport, tokens: Tokens
) -> None:
    authorizer = Authorizer(transport, lambda host: None if host == NAME else Credentials("a", "b"))
    ask(authorizer, tokens.server)
    assert "authorization" not in tokens.asked[0].headers


@pytest.mark.parametrize(
    ("realm", "plain", "allowed"),
    [
        ("http://auth.invalid/token", False, False),
        ("ftp://auth.invalid/token", True, False),
        ("", True, False),
        ("/token", True, False),
        ("https://auth.invalid/token", False, True),
    ],
)
def test_the_realm_must_be_https(
    transport: Transport, realm: str, plain: bool, allowed: bool
) -> None:
    reply = Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'})
    with HttpServer(lambda _: reply) as server:
        authorizer = Authorizer(transport, fixed(Credentials("alice", "s3cret")))
        request = Request("GET", f"{server.url}/v2/")
        host = HostConfig(NAME, server.host, plain_http=plain)
        # An allowed realm is asked, and does not exist.
        with pytest.raises(
            Unavailable if allowed else PermissionDenied, match="no such host" if allowed else "TLS"
        ) as refused:
            authorizer.send(request, host, SCOPE)
        assert "s3cret" not in str(refused.value)


def test_a_401_from_where_a_registry_redirects_to_gets_no_credentials(
    transport: Transport,
) -> None:
    reply = Reply(401, {"WWW-Authenticate": "Basic realm=x"})
    with (
        HttpServer(lambda _: reply) as elsewhere,
        HttpServer(lambda _: Reply(307, {"Location": f"{elsewhere.url}/x"})) as server,
    ):
        authorizer = Authorizer(transport, fixed(Credentials("alice", "s3cret")))
        with pytest.raises(PermissionDenied, match="redirects to"):
            ask(authorizer, server)
        assert len(elsewhere.seen) == 1


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "does not say which"),
        ("Negotiate", "negotiate"),
        ("Basic realm=x", "log in"),
    ],
)
def test_what_cannot_be_answered_is_named(transport: Transport, header: str, message: str) -> None:
    reply = Reply(401, {"WWW-Authenticate": header} if header else {})
    with HttpServer(lambda _: reply) as server, pytest.raises(PermissionDenied, match=message):
        ask(Authorizer(transport), server)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"{}", PermissionDenied),
        (200, b'{"token": "a b s3cret"}', PermissionDenied),
        (200, b'{"token": 7, "x": "s3cret"}', Unavailable),
        (200, b"s3cret", Unavailable),
        (401, b"s3cret", PermissionDenied),
        (403, b"s3cret", PermissionDenied),
        (503, b"s3cret", Transient),
        (429, b"s3cret", Transient),
    ],
)
def test_answers_of_a_token_server(
    transport: Transport, status: int, body: bytes, kind: type[Exception]
) -> None:
    def answer(request: Seen) -> Reply:
        if request.path.startswith("/token"):
            return Reply(status, {"Retry-After": "9"}, body)
        return Reply(401, {"WWW-Authenticate": f'Bearer realm="{server.url}/token"'})

    with HttpServer(answer) as server:
        with pytest.raises(kind) as refused:
            ask(Authorizer(transport), server)
        assert "s3cret" not in f"{refused.value} {refused.value.__cause__}"
        assert "token from" in str(refused.value)
        if isinstance(refused.value, Transient):
            assert refused.value.retry_after == 9


def test_an_identity_token_is_sent_in_the_body(transport: Transport) -> None:
    def answer(request: Seen) -> Reply:
        if request.path.startswith("/token"):
            return Reply(200, {}, b'{"access_token": "t0"}')
        if request.headers.get("authorization") == "Bearer t0":
            return Reply(200, {}, b"content")
        return Reply(401, {"WWW-Authenticate": f'Bearer realm="{server.url}/token",service="reg"'})

    with HttpServer(answer) as server:
        authorizer = Authorizer(transport, fixed(Credentials(identity_token="r3fresh")))
        assert ask(authorizer, server) == b"content"
    asked = server.seen[1]
    assert (asked.method, asked.path) == ("POST", "/token")
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["refresh_token"],
        "service": ["reg"],
        "client_id": ["snapcore"],
        "scope": [SCOPE],
        "refresh_token": ["r3fresh"],
    }
    assert "authorization" not in asked.headers
