"""Credentials: given on the command line, or kept in a docker `config.json`.

The file's format (`auths`, `credHelpers`, `credsStore`) is a public interface of the docker
CLI, which skopeo, podman and containerd's tools read as well. Whoever builds these values
reads files and the environment; nothing here does.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from snapcore.errors import InvalidArgument, from_os_error
from snapcore.oci.reference import DEFAULT_HOST
from snapcore.registry.helpers import run_helper

MAX_CONFIG_BYTES: Final = 1024 * 1024
_HUB_KEY: Final = "https://index.docker.io/v1/"
_HUB_ALIASES: Final = frozenset({DEFAULT_HOST, "index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """What to show a registry or its token server. Never printed.

    Attributes:
        username: "" with an identity token alone.
        password: a password or access token.
        identity_token: an OAuth2 refresh token; wins over the password where it can be used.
    """

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> Credentials:
        """Parse `user:password`, as given to `--creds`.

        Raises:
            InvalidArgument: there is no colon, or no user. The message does not show the text.
        """
        username, colon, password = text.partition(":")
        if not colon or not username:
            raise InvalidArgument("credentials must be given as user:password")
        return cls(username, password)

    def basic(self) -> str:
        """Return the value of a Basic Authorization header (RFC 7617)."""
        secret = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(secret).decode('ascii')}"


class CredentialSource(Protocol):
    """Knows the credentials for hosts."""

    def __call__(self, host: str) -> Credentials | None:
        """Return the credentials for `host` as written in references, None for anonymous.

        Called in a worker thread; may block for seconds.
        """


def anonymous(host: str) -> Credentials | None:  # noqa: ARG001 - the protocol's shape
    """The source that knows nothing."""
    return None


@dataclass(frozen=True, slots=True)
class GivenCredentials:
    """Credentials for one host only; every other host stays anonymous."""

    host: str
    credentials: Credentials

    def __call__(self, host: str) -> Credentials | None:
        """Return the credentials if `host` is theirs."""
        return self.credentials if host == self.host else None


class _Auth(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class _File(msgspec.Struct, frozen=True):
    auths: dict[str, _Auth] | None = None
    cred_helpers: dict[str, str] | None = msgspec.field(default=None, name="credHelpers")
    creds_store: str = msgspec.field(default="", name="credsStore")


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """The credentials of a docker `config.json`.

    For each host a helper named for it comes first, then the store, then the file itself.

    Attributes:
        entries: credentials in the file, by host.
        helpers: helper names (`docker-credential-<name>`) by host.
        store: helper for every other host, "" for none.
        environment: the environment helpers run in; its PATH is where they are looked for.
    """

    entries: Mapping[str, Credentials] = field(default_factory=dict, repr=False)
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, path: str, environment: Mapping[str, str]) -> DockerConfig:
        """Read and parse a file.

        Raises:
            InvalidArgument: too large or malformed; the message names the file.
            NotFound, PermissionDenied: it cannot be read.
        """
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise from_os_error(error, f"docker config {path!r}") from error
        try:
            return cls.parse(data, environment)
        except InvalidArgument as error:
            raise InvalidArgument(f"{path!r}: {error}") from error

    @classmethod
    def parse(cls, data: bytes, environment: Mapping[str, str]) -> DockerConfig:
        """Parse the file's bytes.

        Args:
            data: the content of `config.json`.
            environment: for the helpers.

        Raises:
            InvalidArgument: too large or malformed. The message shows no value of the file.
        """
        if len(data) > MAX_CONFIG_BYTES:
            raise InvalidArgument(f"docker config is larger than {MAX_CONFIG_BYTES} bytes")
        try:
            parsed = msgspec.json.decode(data, type=_File)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise InvalidArgument(f"malformed docker config: {type(error).__name__}") from error
        entries: dict[str, Credentials] = {}
        for key, auth in (parsed.auths or {}).items():
            credentials = _credentials(key, auth)
            if credentials is not None:
                # The first of several spellings of one host wins, as in the file's order.
                entries.setdefault(_host(key), credentials)
        helpers = {_host(key): name for key, name in (parsed.cred_helpers or {}).items()}
        return cls(entries, helpers, parsed.creds_store, dict(environment))

    def __call__(self, host: str) -> Credentials | None:
        """Return the credentials for `host`, None if the file and its helpers have none.

        Raises:
            PermissionDenied: the helper for this host is missing or failed.
        """
        name = _host(host)
        helper = self.helpers.get(name) or self.store
        if helper:
            server = _HUB_KEY if name == DEFAULT_HOST else name
            answer = run_helper(helper, server, self.environment)
            if answer is not None:
                username, secret = answer
                if username == "<token>":
                    return Credentials(identity_token=secret)
                return Credentials(username, secret)
        return self.entries.get(name)


def _host(key: str) -> str:
    """Reduce a key (a host, or an old-style URL) to the host that references use."""
    bare = key.partition("://")[2] or key
    host = bare.partition("/")[0]
    return DEFAULT_HOST if host in _HUB_ALIASES else host


def _credentials(key: str, auth: _Auth) -> Credentials | None:
    username, password = auth.username, auth.password
    if auth.auth:
        try:
            decoded = base64.b64decode(auth.auth, validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise InvalidArgument(
                f"docker config: the auth entry of {key[:200]!r} is not base64 text"
            ) from error
        username, _, password = decoded.partition(":")
        # Some writers pad the password with NULs to hide its length.
        password = password.rstrip("\0")
    if not (username or password or auth.identitytoken):
        return None
    return Credentials(username, password, auth.identitytoken)
