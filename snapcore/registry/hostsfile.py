"""One `hosts.toml`, the file in which containerd's users say how a registry is reached.

The format is containerd's public interface (its docs/hosts.md). What is not known here is an error
and not passed over: a mistyped `skip_verify` or `capabilities` would change whom we trust.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import urlsplit

from snapcore.errors import InvalidArgument
from snapcore.registry.hosts import ALL_CAPABILITIES, Capability, ClientCertificate, Headers
from snapcore.registry.proxies import Proxies

MAX_FILE_BYTES: Final = 1024 * 1024
_KEYS: Final = (
    *("capabilities", "ca", "client", "skip_verify"),
    *("header", "override_path", "dial_timeout", "proxy"),
)
_ROOT_KEYS: Final = ("server", "host", *_KEYS)
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3} | {
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
_OUR_HEADERS: Final = frozenset(
    (
        *("accept", "accept-encoding", "connection", "content-length"),
        *("host", "range", "te", "transfer-encoding"),
    )
)


@dataclass(frozen=True, slots=True)
class HostEntry:
    """One host of the file, as written.

    Attributes:
        scheme: `http`, `https`, or "" if the file does not say.
        endpoint: `host[:port]`; "" for a `server` that is the reference's own host.
        path: where the distribution API begins, without a final slash.
        capabilities: what it is trusted with.
        ca_files: authorities, as absolute paths.
        clients: our certificates, as absolute paths.
        skip_verify: None if the file does not say.
        headers: sent with each request to it.
        connect_timeout: seconds, None if the file does not say.
        proxy: its URL, None if the file does not say.
    """

    scheme: str = ""
    endpoint: str = ""
    path: str = "/v2"
    capabilities: frozenset[Capability] = ALL_CAPABILITIES
    ca_files: tuple[str, ...] = ()
    clients: tuple[ClientCertificate, ...] = ()
    skip_verify: bool | None = None
    headers: Headers = field(default=(), repr=False)
    connect_timeout: float | None = None
    proxy: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class HostsFile:
    """The hosts of one registry.

    Attributes:
        mirrors: in the order of the file.
        server: asked after them.
    """

    mirrors: tuple[HostEntry, ...] = ()
    server: HostEntry = field(default_factory=HostEntry)


def parse_hosts_file(data: bytes, path: str) -> HostsFile:
    """Parse a `hosts.toml`.

    Args:
        data: its bytes.
        path: where it lies; names it in messages, and relative paths in it begin beside it.

    Raises:
        InvalidArgument: too large, not TOML, an unknown key, or a value of another type or form.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InvalidArgument(f"{path}: larger than {MAX_FILE_BYTES} bytes")
    try:
        document: dict[str, object] = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"{path}: not TOML: {error}") from error
    root = _Table(document, path, "", _ROOT_KEYS)
    tables = root.table("host")
    # A TOML table keeps the order in which its keys first appear: that of the file.
    mirrors = [
        _entry(_Table(root.as_table(item, f"host.{url!r}"), path, f"host.{url!r}.", _KEYS), url)
        for url, item in tables.items()
    ]
    return HostsFile(tuple(mirrors), _entry(root, root.text("server") or ""))


def _entry(table: _Table, url: str) -> HostEntry:
    override = table.flag("override_path") or False
    scheme, endpoint, path = _split(url, override, table)
    return HostEntry(
        scheme,
        endpoint,
        path,
        _capabilities(table),
        tuple(table.path(item) for item in table.strings("ca")),
        _clients(table),
        table.flag("skip_verify"),
        _headers(table),
        _duration(table),
        _proxy(table),
    )


class _Table:
    """A TOML table whose values are asked for with their type."""

    def __init__(
        self, values: Mapping[str, object], file: str, prefix: str, known: tuple[str, ...]
    ) -> None:
        self._values: Final = values
        self._file: Final = file
        self._prefix: Final = prefix
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                raise self.error(f"unknown key {prefix + key!r} ({hint})")

    def error(self, message: str) -> InvalidArgument:
        """Return the error that names the file."""
        return InvalidArgument(f"{self._file}: {message}")

    def wrong(self, key: str, want: str) -> InvalidArgument:
        """Return the error for a value of another type or form; the value may be a secret."""
        return self.error(f"{self._prefix + key!r} must be {want}")

    def get(self, key: str) -> object:
        """Return a value, None if it is not there."""
        return self._values.get(key)

    def text(self, key: str) -> str | None:
        """Return a string."""
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def flag(self, key: str) -> bool | None:
        """Return a boolean."""
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def strings(self, key: str) -> list[str]:
        """Return a list of strings, for which one string may stand."""
        found = _as_strings(self._values.get(key, []))
        if found is None:
            raise self.wrong(key, "a string or a list of strings")
        return found

    def table(self, key: str) -> dict[str, object]:
        """Return a table."""
        return self.as_table(self._values.get(key, {}), key)

    def as_table(self, value: object, key: str) -> dict[str, object]:
        """Return a value that must be a table."""
        if not isinstance(value, dict):
            raise self.wrong(key, "a table")
        return cast(dict[str, object], value)

    def path(self, written: str) -> str:
        """Return a path as seen from the file's directory."""
        return os.path.join(os.path.dirname(os.path.abspath(self._file)), written)


def _as_strings(value: object) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return cast(list[str], value)
    return None


def _split(url: str, override: bool, table: _Table) -> tuple[str, str, str]:
    if not url:
        return "", "", "/v2"
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        usable = parts.scheme in ("", "http", "https") and bool(parts.hostname)
        usable = usable and (parts.port or 1) > 0 and "@" not in parts.netloc
        usable = usable and not parts.query and not parts.fragment
        usable = usable and all(32 < ord(letter) < 127 for letter in url)
    except ValueError:
        usable = False
    if not usable:
        # Not shown past the host: somebody may have written a password into it.
        raise table.error(f"not the URL of a host: {url.rpartition('@')[2][:200]!r}")
    path = os.path.normpath(parts.path).strip("/.") if parts.path else ""
    path = f"/{path}" if path else ""
    if not override and not path.endswith("/v2"):
        path += "/v2"
    return parts.scheme, parts.netloc.lower(), path


def _capabilities(table: _Table) -> frozenset[Capability]:
    words = table.strings("capabilities")
    try:
        # An empty list means all, as in containerd.
        return frozenset(Capability(word.lower()) for word in words) or ALL_CAPABILITIES
    except ValueError:
        raise table.wrong("capabilities", "a list of: pull, resolve, push") from None


def _clients(table: _Table) -> tuple[ClientCertificate, ...]:
    value = table.get("client")
    clients = []
    for item in value if isinstance(value, list) else [] if value is None else [value]:
        pair = _as_strings(item)
        if pair is None or not pair[0:1] or len(pair) > 2 or (len(pair) == 1) != (item == pair[0]):
            raise table.wrong("client", "a path, or a list of paths or of [certificate, key] pairs")
        key = table.path(pair[1]) if pair[1:] and pair[1] else ""
        clients.append(ClientCertificate(table.path(pair[0]), key))
    return tuple(clients)


def _headers(table: _Table) -> Headers:
    headers = []
    for name, value in table.table("header").items():
        values = _as_strings(value)
        if not _HEADER_NAME.match(name) or name.lower() in _OUR_HEADERS:
            raise table.error(f"not a header that can be set: {name[:100]!r}")
        if values is None or not all(_HEADER_VALUE.match(text) for text in values):
            raise table.wrong(f"header.{name}", "a string or a list of strings on one line")
        headers += [(name, text) for text in values]
    return tuple(headers)


def _duration(table: _Table) -> float | None:
    text = table.text("dial_timeout")
    if not text:
        return None
    seconds, at = 0.0, 0
    while found := _DURATION.match(text, at):
        seconds += float(found[1]) * _SECONDS[found[2]]
        at = found.end()
    if at != len(text) or not 0 < seconds < 86400:
        raise table.wrong("dial_timeout", "a time such as '500ms' or '1m30s', less than a day")
    return seconds


def _proxy(table: _Table) -> str | None:
    url = table.text("proxy")
    if not url:
        return None
    try:
        Proxies(http=url)
    except InvalidArgument as error:
        raise table.error(f"'proxy': {error}") from error
    return url
