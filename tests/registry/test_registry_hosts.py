"""From a reference's host to an endpoint."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from snapcore.errors import InvalidArgument
from snapcore.registry import DefaultHosts, Tls


@pytest.mark.parametrize(
    ("host", "plain", "url"),
    [
        ("registry.example", False, "https://registry.example"),
        ("registry.example:5000", True, "http://registry.example:5000"),
        ("docker.io", False, "https://registry-1.docker.io"),
        ("docker.io", True, "https://registry-1.docker.io"),
        ("localhost:5000", False, "https://localhost:5000"),
        ("127.0.0.1:5000", False, "https://127.0.0.1:5000"),
        ("[::1]:5000", True, "http://[::1]:5000"),
    ],
)
def test_base_urls(host: str, plain: bool, url: str) -> None:
    (config,) = DefaultHosts(plain_http=plain)(host)
    assert config.base_url == url
    assert config.name == host


def test_certificates_are_verified_unless_asked_otherwise() -> None:
    assert Tls().context().verify_mode == ssl.CERT_REQUIRED
    assert Tls().context().check_hostname
    assert Tls(skip_verify=True).context().verify_mode == ssl.CERT_NONE


def test_an_unusable_file_of_authorities_is_named(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.pem")
    with pytest.raises(InvalidArgument, match=r"absent\.pem"):
        Tls(ca_files=(absent,)).context()
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("garbage")
    with pytest.raises(InvalidArgument, match=r"garbage\.pem"):
        Tls(ca_files=(str(garbage),)).context()
