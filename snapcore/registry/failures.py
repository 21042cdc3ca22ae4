"""What went wrong with a request, as snapcore's errors.

Only two questions matter to the callers: whose fault it is (the class) and whether the same
request may do better later (`Transient`). Nothing here shows a header, a query or user info:
those carry tokens and signatures.
"""

from __future__ import annotations

import datetime as dt
import errno
import re
import socket
import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import msgspec
import urllib3.exceptions as wire

from snapcore.errors import (
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SnapcoreError,
    Unavailable,
)

MAX_RETRY_AFTER: Final = 60.0
"""Longest wait in seconds that a peer may ask of us; more is cut to this."""
_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_CODE: Final = re.compile(r"[A-Z][A-Z_]{2,40}\Z")
# How http.client tells what a proxy said to CONNECT.
_TUNNEL: Final = re.compile(r"Tunnel connection failed: (\d{3})\b")
# How OpenSSL names what a server says about a client's certificate.
_OUR_CERTIFICATE: Final = re.compile(r"ALERT_.*CERTIFICATE|ALERT_UNKNOWN_CA")
_MAX_SHOWN_PATH: Final = 200


class Transient(Unavailable):
    """Internal signal: the same request may succeed later.

    It never leaves the room: the retry layer turns the last one into `Unavailable`.

    Attributes:
        retry_after: seconds the peer asked us to wait, None if it did not say.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after: Final = retry_after


class _ErrorItem(msgspec.Struct, frozen=True):
    code: str = ""


class _ErrorBody(msgspec.Struct, frozen=True):
    errors: list[_ErrorItem] | None = None


def shown(url: str) -> str:
    """Return `url` as it may appear in messages: without user info, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path[:_MAX_SHOWN_PATH]}"


def retry_after(value: str, now: Callable[[], float] = time.time) -> float | None:
    """Parse a Retry-After header (RFC 9110 §10.2.3): seconds, or an HTTP date.

    Args:
        value: the header, "" if absent.
        now: seconds since the epoch.

    Returns:
        Seconds to wait, between 0 and `MAX_RETRY_AFTER`; None if there is no usable value.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        # Ten digits are 300 years; longer numbers are not even parsed.
        return MAX_RETRY_AFTER if len(text) > 10 else min(float(text), MAX_RETRY_AFTER)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return min(max(when.timestamp() - now(), 0.0), MAX_RETRY_AFTER)


def from_status(status: int, what: str, body: bytes, wait: float | None) -> SnapcoreError:
    """Return the error for a response that is not a success.

    Args:
        status: the HTTP status.
        what: what was asked for, for the message.
        body: at most the first KiBs of the body; only its registry error code is used.
        wait: the parsed Retry-After.
    """
    code = _error_code(body)
    said = f"HTTP {status}{f' {code}' if code else ''}"
    if status == 404:
        return NotFound(f"{what} not found in the registry ({said})")
    if status in (401, 403):
        return PermissionDenied(
            f"registry refused access to {what} ({said}); check the name and the credentials"
        )
    if status == 407:
        return _proxy_wants_credentials(what)
    if status == 429:
        return Transient(f"registry limits our rate: {what} ({said})", wait)
    if status in _RETRIED:
        return Transient(f"registry cannot serve {what} now ({said})", wait)
    return Unavailable(f"registry gave an unexpected answer for {what} ({said})")


def from_wire(error: Exception, url: str) -> SnapcoreError:
    """Return the error for a request that got no (whole) response.

    Args:
        error: what urllib3 raised.
        url: the request's URL.
    """
    where = repr(shown(url))
    cause = _root(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Unavailable(
            f"the certificate of {where} is not trusted: {cause.verify_message};"
            " give the authority's certificate if it is yours"
        )
    if isinstance(cause, ssl.SSLError) and cause.reason in (
        "WRONG_VERSION_NUMBER",
        "RECORD_LAYER_FAILURE",
        "HTTP_REQUEST",
    ):
        return Unavailable(
            f"{where} does not speak TLS; if it is a plain HTTP registry, ask for plain HTTP"
        )
    if isinstance(cause, ssl.SSLError) and _OUR_CERTIFICATE.search(cause.reason or ""):
        return Unavailable(
            f"{where} does not accept our certificate, or wants one ({cause.reason});"
            " 'client' in its hosts.toml says which is shown"
        )
    if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
        return Unavailable(f"no such host: {where}")
    if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
        return ResourceExhausted(f"too many open files while connecting to {where}")
    refused = isinstance(error, wire.NewConnectionError)
    if isinstance(error, wire.TimeoutError) and not refused:
        return Transient(f"{where} did not answer in time")
    if isinstance(error, wire.ProxyError):
        return _from_proxy(cause, where)
    if isinstance(error, wire.LocationParseError | wire.LocationValueError | wire.InvalidHeader):
        return Unavailable(f"malformed address or header from the peer at {where}")
    return Transient(f"connection to {where} failed: {_reason(cause)}")


def _from_proxy(cause: BaseException, where: str) -> SnapcoreError:
    answered = _TUNNEL.match(str(cause))
    if answered is None:
        return Transient(f"the proxy did not connect us to {where}: {_reason(cause)}")
    status = int(answered[1])
    if status == 407:
        return _proxy_wants_credentials(where)
    kind = Transient if status in _RETRIED else Unavailable
    return kind(f"the proxy refused to connect us to {where} (HTTP {status})")


def _proxy_wants_credentials(what: str) -> PermissionDenied:
    return PermissionDenied(
        f"the proxy to {what} wants other credentials (HTTP 407);"
        " write them into its URL: http://user:password@host:port"
    )


def _reason(cause: BaseException) -> str:
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return type(cause).__name__


def _root(error: BaseException) -> BaseException:
    """Follow causes to the first error of the operating system, at most a few steps."""
    current: BaseException = error
    for _ in range(8):
        inner = current.__cause__ or getattr(current, "original_error", None)
        if inner is None and current.args and isinstance(current.args[-1], BaseException):
            inner = current.args[-1]
        inner = inner or current.__context__
        if inner is None or (isinstance(current, OSError) and current.errno is not None):
            break
        current = inner
    return current


def _error_code(body: bytes) -> str:
    try:
        parsed = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    codes = [item.code for item in parsed.errors or () if _CODE.match(item.code)]
    return codes[0] if codes else ""
