"""Which networks a peer may send us to."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

import pytest
from support.faults import HttpServer, Reply, Seen

from snapcore.errors import Unavailable
from snapcore.registry import (
    PUBLIC_ONLY,
    Authorizer,
    Credentials,
    HostConfig,
    Proxies,
    Request,
    Transport,
)
from snapcore.registry.network import (
    EVERYWHERE,
    Network,
    Reach,
    everywhere,
    network_of,
    resolve,
    same_network,
    spelled_network,
)


def fine(_: Seen) -> Reply:
    return Reply(200, {}, b"fine")


def as_public(_: Network) -> Reach:
    return PUBLIC_ONLY


@pytest.fixture
def suspicious() -> Iterator[Transport]:
    """Takes every peer for a public one."""
    transport = Transport(follow=as_public)
    yield transport
    transport.close()


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("93.184.216.34", "public"),
        ("2606:4700::1", "public"),
        ("10.1.2.3", "private"),
        ("100.64.0.1", "private"),
        ("192.168.0.1", "private"),
        ("fd00::1", "private"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "loopback"),
        ("::", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("224.0.0.1", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("2002:7f00:1::", "loopback"),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert network_of(ipaddress.ip_address(address)).value == network


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("registry.example", "public"),
        ("localhost", "loopback"),
        ("x.localhost", "loopback"),
        ("127.1", "loopback"),
        ("2130706433", "loopback"),
        ("0xa9fea9fe", "link-local"),
        ("10.0.0.1", "private"),
    ],
)
def test_spellings(host: str, network: str) -> None:
    assert spelled_network(host).value == network


def test_where_each_network_may_send_us() -> None:
    public, private = Network.PUBLIC, Network.PRIVATE
    loopback, link_local = Network.LOOPBACK, Network.LINK_LOCAL
    assert same_network(public) == {public}
    assert same_network(private) == {public, private}
    assert same_network(loopback) == {public, private, loopback}
    assert same_network(link_local) == {public, link_local}
    assert everywhere(public) == EVERYWHERE


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]"])
def test_no_redirect_leads_inside(suspicious: Transport, host: str) -> None:
    with HttpServer(fine) as inside:
        port = inside.host.partition(":")[2]
        reply = Reply(307, {"Location": f"http://{host}:{port}/x"})
        with (
            HttpServer(lambda _: reply) as registry,
            pytest.raises(Unavailable, match=r"loopback.*private_networks"),
        ):
            suspicious.send(Request("GET", registry.url))
        assert inside.seen == []


def test_no_challenge_leads_inside(suspicious: Transport) -> None:
    """A token server is where the registry says; credentials would go there."""
    given = Credentials("alice", "s3cret")
    with HttpServer(fine) as inside:
        challenge = f'Bearer realm="{inside.url}/token"'
        with HttpServer(lambda _: Reply(401, {"WWW-Authenticate": challenge})) as registry:
            authorizer = Authorizer(suspicious, lambda _: given)
            host = HostConfig("registry.example", registry.host, plain_http=True)
            with pytest.raises(Unavailable, match=r"loopback.*private_networks"):
                authorizer.send(Request("GET", f"{registry.url}/v2/"), host, "")
        assert inside.seen == []


def test_a_step_to_ones_own_name_is_judged_as_well(suspicious: Transport) -> None:
    """The name may have another address by then."""
    with (
        HttpServer(lambda _: Reply(307, {"Location": "/again"})) as registry,
        pytest.raises(Unavailable, match="refused"),
    ):
        suspicious.send(Request("GET", registry.url))
    assert len(registry.seen) == 1


def test_a_kept_connection_is_no_way_around(suspicious: Transport) -> None:
    with HttpServer(fine) as server:
        with suspicious.send(Request("GET", server.url)) as response:
            response.read_all(100, "answer")
        with pytest.raises(Unavailable, match="refused"):
            suspicious.send(Request("GET", server.url, reach=PUBLIC_ONLY))
        assert len(server.seen) == 1


def test_an_answer_says_where_it_may_send_us() -> None:
    transport = Transport()
    with HttpServer(fine) as server, transport.send(Request("GET", server.url)) as response:
        assert response.reach == same_network(Network.LOOPBACK)
    transport.close()


def test_addresses_out_of_reach_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The looked-up address is the one that is used: nobody looks again."""
    answers = ["10.0.0.5", "93.184.216.34", "127.0.0.1"]
    kind = socket.SOCK_STREAM
    found = [(socket.AF_INET, kind, 6, "", (address, 443)) for address in answers]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    kept = resolve("registry.example", 443, PUBLIC_ONLY)
    assert [endpoint.address for endpoint in kept] == [("93.184.216.34", 443)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found[::2])
    with pytest.raises(Unavailable, match=r"10\.0\.0\.5 \(private\), 127\.0\.0\.1 \(loopback\)"):
        resolve("registry.example", 443, PUBLIC_ONLY)


def test_through_a_proxy_spelled_addresses_are_judged() -> None:
    redirect = Reply(307, {"Location": "http://169.254.169.254/latest"})
    with HttpServer(lambda _: redirect) as proxy:
        transport = Transport(proxies=Proxies(http=proxy.url))
        with pytest.raises(Unavailable, match="link-local"):
            transport.send(Request("GET", "http://registry.invalid/v2/"))
        transport.close()
    assert len(proxy.seen) == 1
