"""Which networks a request may reach, judged by the address that is really connected to.

A name says nothing: its owner points it wherever they like, at another place each time it is
looked up. So the name is resolved once, its addresses are judged, and the connection goes to one
of those very addresses.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from snapcore.errors import Unavailable

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_SHOWN: Final = 3


class Network(Enum):
    """Where an address is, as seen from this machine."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"


Reach: TypeAlias = frozenset[Network]
"""The networks that a request may connect to."""
EVERYWHERE: Final[Reach] = frozenset(Network)
PUBLIC_ONLY: Final[Reach] = frozenset({Network.PUBLIC})
Follow: TypeAlias = Callable[[Network], Reach]
"""Called with where an answer came from; returns where that answer may send us."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a host: what socket(2) and connect(2) want, and the network it is in."""

    family: socket.AddressFamily
    address: tuple[str | int | bytes, ...]
    network: Network


def same_network(network: Network) -> Reach:
    """Return where a peer may send us by default: to public addresses, and to its own network.

    Cloud metadata services, routers and local daemons answer anybody who asks from inside, so a
    peer outside must not make us ask (server-side request forgery). A registry on this machine
    may also send us to the private network, but never to link-local addresses.
    """
    reach = PUBLIC_ONLY | {network}
    return reach | {Network.PRIVATE} if network is Network.LOOPBACK else reach


def everywhere(network: Network) -> Reach:
    """Return where a peer may send us if nothing is forbidden."""
    del network
    return EVERYWHERE


def network_of(address: Address) -> Network:
    """Return where `address` is; an IPv4 address inside an IPv6 one is what counts."""
    address = _embedded(address)
    # Linux takes the unspecified address for this machine.
    if address.is_loopback or address.is_unspecified:
        return Network.LOOPBACK
    # What is no single machine's address has no better claim than the most guarded network.
    if address.is_link_local or address.is_multicast:
        return Network.LINK_LOCAL
    return Network.PUBLIC if address.is_global else Network.PRIVATE


def spelled_network(host: str) -> Network:
    """Return where a host is as far as its spelling tells: a name counts as public."""
    if host == "localhost" or host.endswith(".localhost"):
        return Network.LOOPBACK
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return Network.PUBLIC
    return network_of(_address(str(found[0][4][0])))


def resolve(host: str, port: int, reach: Reach) -> list[Endpoint]:
    """Look `host` up and return those of its addresses that may be connected to, best first.

    Raises:
        OSError: it cannot be looked up.
        Unavailable: all of its addresses are out of reach.
    """
    found = [
        Endpoint(entry[0], entry[4], network_of(_address(str(entry[4][0]))))
        for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    ]
    allowed = [endpoint for endpoint in found if endpoint.network in reach]
    if not allowed:
        raise refused(host, [f"{item.address[0]!s} ({item.network.value})" for item in found])
    return allowed


def refused(host: str, where: list[str]) -> Unavailable:
    """Return the error for a host that the request must not reach; `where` says what it is."""
    return Unavailable(
        f"{host!r} is at {', '.join(where[:_SHOWN])}, where this request must not go: refused"
        " (see registry.private_networks)"
    )


def _address(text: str) -> Address:
    return ipaddress.ip_address(text.partition("%")[0])


def _embedded(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.sixtofour or address
