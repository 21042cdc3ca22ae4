"""Which proxy a URL goes through."""

from __future__ import annotations

import pytest

from snapcore.errors import InvalidArgument
from snapcore.registry import Proxies

BOTH = Proxies("http://plain.example:3128", "http://tls.example:3128")


def exempt(*items: str) -> Proxies:
    return Proxies(BOTH.http, BOTH.https, items)


def test_one_proxy_for_each_scheme() -> None:
    assert BOTH.select("http://registry.example/v2/") == BOTH.http
    assert BOTH.select("https://registry.example/v2/") == BOTH.https
    assert Proxies().select("https://registry.example/v2/") == ""


@pytest.mark.parametrize(
    "url", ["http://localhost:5000", "http://127.0.0.1:5000", "https://[::1]/", "http://127.9.9.9/"]
)
def test_loopback_is_reached_directly(url: str) -> None:
    assert BOTH.select(url) == ""


@pytest.mark.parametrize(
    ("item", "host", "direct"),
    [
        ("*", "any.example", True),
        ("example.org", "example.org", True),
        ("example.org", "a.b.example.org", True),
        ("example.org", "notexample.org", False),
        (".example.org", "a.example.org", True),
        ("*.example.org", "a.example.org", True),
        ("Example.ORG.", "a.example.org", True),
        ("example.org:443", "example.org", True),
        ("example.org:80", "example.org", False),
        ("example.org:8443", "example.org:8443", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/99", "10.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.33", False),
        ("10.1.2.3", "[::ffff:10.1.2.3]", True),
        ("fd00::/8", "[fd00::1]", True),
        ("fd00::1", "[fd00::1]", True),
        ("[fd00::1]:443", "[fd00::1]", True),
        (".", "example.org", False),
    ],
)
def test_no_proxy(item: str, host: str, direct: bool) -> None:
    assert (exempt(item).select(f"https://{host}/v2/") == "") is direct


def test_lower_case_variables_win() -> None:
    environment = {
        "HTTPS_PROXY": "http://upper.example",
        "https_proxy": "http://lower.example",
        "HTTP_PROXY": "upper.example:3128",
        "NO_PROXY": "a.example, b.example,,",
    }
    found = Proxies.from_environment(environment)
    assert found == Proxies(
        "http://upper.example:3128", "http://lower.example", ("a.example", "b.example")
    )


def test_http_proxy_of_a_cgi_request_is_ignored() -> None:
    environment = {"HTTP_PROXY": "http://evil.example", "REQUEST_METHOD": "GET"}
    assert Proxies.from_environment(environment) == Proxies()


@pytest.mark.parametrize(
    "url", ["socks5://u:s3cret@h:1", "http://", "http://u:s3cret@h:port", "http://u:s3cret@h:99999"]
)
def test_unusable_proxies_are_refused_without_their_password(url: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Proxies.from_environment({"https_proxy": url})
    assert "s3cret" not in str(refused.value)


def test_the_password_is_not_shown() -> None:
    assert "s3cret" not in repr(Proxies("http://u:s3cret@h:1", "http://u:s3cret@h:1"))
