"""What answers and broken connections mean, and what messages may show."""

from __future__ import annotations

import ssl
from email.utils import formatdate

import pytest
import urllib3.exceptions as wire

from snapcore.errors import NotFound, PermissionDenied, Unavailable
from snapcore.registry.failures import (
    MAX_RETRY_AFTER,
    Transient,
    from_status,
    from_wire,
    retry_after,
    shown,
)

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("86400", MAX_RETRY_AFTER),
        ("9" * 5000, MAX_RETRY_AFTER),
        (formatdate(NOW + 9, usegmt=True), 9),
        (formatdate(NOW - 9, usegmt=True), 0),
        (formatdate(NOW + 1e9, usegmt=True), MAX_RETRY_AFTER),
        ("Tue, 14 Nov 2023 22:13:29 -0000", 9),
        ("", None),
        ("-7", None),
        ("7.5", None),
        ("soon", None),
        ("\u0667", None),
    ],
)
def test_retry_after(value: str, expected: float | None) -> None:
    assert retry_after(value, lambda: NOW) == expected


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, PermissionDenied),
        (403, PermissionDenied),
        (407, PermissionDenied),
        (404, NotFound),
        (408, Transient),
        (429, Transient),
        (500, Transient),
        (503, Transient),
        (400, Unavailable),
        (418, Unavailable),
        (505, Unavailable),
    ],
)
def test_statuses(status: int, kind: type[Exception]) -> None:
    error = from_status(status, "'thing'", b"", 3.0)
    assert type(error) is kind
    assert "'thing'" in str(error)
    assert f"HTTP {status}" in str(error)
    if isinstance(error, Transient):
        assert error.retry_after == 3.0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"errors":[{"code":"DENIED","message":"m","detail":{}}]}', "DENIED"),
        (b'{"errors":[{"code":"echoed s3cret"},{"code":"UNKNOWN"}]}', "UNKNOWN"),
        (b'{"errors":[{"message":"s3cret"}]}', ""),
        (b'{"errors":"s3cret"}', ""),
        (b"<html>s3cret</html>", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_only_an_error_code_of_a_body_is_shown(body: bytes, code: str) -> None:
    message = str(from_status(403, "'thing'", body, None))
    assert f"(HTTP 403{f' {code}' if code else ''})" in message
    assert "s3cret" not in message


def test_addresses_are_shown_without_secrets() -> None:
    url = "https://user:s3cret@cdn.example:8443/blob?signature=s3cret#s3cret"
    assert shown(url) == "https://cdn.example:8443/blob"


@pytest.mark.parametrize(
    "reason",
    ["TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE", "TLSV1_ALERT_UNKNOWN_CA"],
)
def test_a_server_that_refuses_our_certificate(reason: str) -> None:
    """Made by hand: on the wire, a reset may overtake the server's alert."""
    cause = ssl.SSLError(1, "alert")
    cause.reason = reason
    error = from_wire(wire.SSLError(cause), "https://h/v2/?token=s3cret")
    assert type(error) is Unavailable
    assert "certificate" in str(error)
    assert reason in str(error)
    assert "s3cret" not in str(error)
