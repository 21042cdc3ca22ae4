"""Which proxy a request goes through: a value, built once from an environment.

The names and rules are those every container client shares: `http_proxy`, `https_proxy` and
`no_proxy` in either case, the lower-case form first. Nothing here reads the process's own
environment; the edge (cli, node) hands it in.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from snapcore.errors import InvalidArgument

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxies:
    """Proxies for plain and TLS requests, and the hosts that are reached without them.

    Attributes:
        http: proxy URL for `http://` targets, "" for none; may carry `user:password@`.
        https: proxy URL for `https://` targets, "" for none.
        no_proxy: host names (a name covers its subdomains), addresses, CIDR blocks, each
            optionally with `:port`; `*` means every host.
    """

    http: str = field(default="", repr=False)
    https: str = field(default="", repr=False)
    no_proxy: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for url in (self.http, self.https):
            _check(url)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Proxies:
        """Build the value from environment variables.

        `HTTP_PROXY` is ignored when `REQUEST_METHOD` is set: a CGI server fills it from a
        request header (CVE-2016-5385).

        Raises:
            InvalidArgument: a variable is not a proxy URL with scheme http or https.
        """
        cgi = "REQUEST_METHOD" in environment
        http = environment.get("http_proxy") or ("" if cgi else environment.get("HTTP_PROXY", ""))
        https = environment.get("https_proxy") or environment.get("HTTPS_PROXY", "")
        exempt = environment.get("no_proxy") or environment.get("NO_PROXY", "")
        items = tuple(item.strip() for item in exempt.split(",") if item.strip())
        return cls(_with_scheme(http), _with_scheme(https), items)

    def select(self, url: str) -> str:
        """Return the proxy URL for a request to `url`, or "" to connect directly.

        The loopback host is always reached directly: a proxy's loopback is another machine.
        """
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        proxy = self.https if parts.scheme == "https" else self.http
        if not proxy or is_loopback(host):
            return ""
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
        return "" if any(_matches(item, host, port) for item in self.no_proxy) else proxy


def is_loopback(host: str) -> bool:
    """Tell whether a host name or literal address is this machine's loopback."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = parse_address(host)
    return address is not None and address.is_loopback


def parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the literal address that `host` is, None if it is a name.

    An IPv4 address inside IPv6 (`::ffff:a.b.c.d`) is returned as IPv4, so that no rule about
    addresses can be passed by spelling.
    """
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _matches(item: str, host: str, port: int) -> bool:
    if item == "*":
        return True
    address = parse_address(host)
    if address is not None and "/" in item:
        try:
            return address in ipaddress.ip_network(item, strict=False)
        except ValueError:
            return False
    name, only_port = _split_port(item)
    if only_port and only_port != str(port):
        return False
    if address is not None:
        return parse_address(name) == address
    name = name.lower().removeprefix("*").lstrip(".").rstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split_port(item: str) -> tuple[str, str]:
    if item.count(":") > 1 and not item.startswith("["):
        return item, ""
    head, colon, port = item.rpartition(":")
    return (head, port) if colon and port.isdigit() else (item, "")


def _with_scheme(url: str) -> str:
    return url if not url or "://" in url else f"http://{url}"


def _check(url: str) -> None:
    if not url:
        return
    try:
        parts: SplitResult | None = urlsplit(url)
        usable = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port if parts is not None else None
    except ValueError:
        usable = False
    if not usable:
        # The URL may hold a password, so only what comes before it is shown.
        scheme = url.partition("://")[0][:20]
        raise InvalidArgument(
            f"not a usable proxy URL (scheme {scheme!r}); want http://host:port or https://host:port"
        )
