"""Debian's `docker-registry` on a loopback port, open, with passwords, or with tokens."""

from __future__ import annotations

import base64
import datetime as dt
import json
import ssl
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from support.faults import HttpServer, Reply, Seen
from support.images import require_tools, run_tool

SERVICE: Final = "test-registry"
ISSUER: Final = "test-issuer"


@dataclass(frozen=True, slots=True)
class Identity:
    """A key and its self-signed certificate for 127.0.0.1 and other names."""

    key: rsa.RSAPrivateKey = field(repr=False)
    certificate: x509.Certificate

    @classmethod
    def make(cls, *names: str) -> Identity:
        """Make a fresh one, for these names besides."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "snapcore tests")])
        now = dt.datetime.now(tz=dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName(
                    [
                        *(x509.DNSName(dns) for dns in ("localhost", *names)),
                        x509.IPAddress(IPv4Address("127.0.0.1")),
                    ]
                ),
                critical=False,
            )
        )
        return cls(key, builder.sign(key, hashes.SHA256()))

    def write(self, directory: Path) -> tuple[Path, Path]:
        """Write certificate and key as PEM files; return their paths."""
        certificate, key = directory / "cert.pem", directory / "key.pem"
        certificate.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        key.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, key

    def server_context(self, directory: Path) -> ssl.SSLContext:
        """Return a TLS context for a server with this identity."""
        certificate, key = self.write(directory)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context


class TokenServer:
    """Gives tokens for whatever scope is asked, to whom it knows; a context manager.

    Args:
        users: passwords by name; empty lets everybody in anonymously.
        refresh_tokens: accepted by POST; None answers every POST with 404.
        lifetime: seconds that tokens are good for.
    """

    def __init__(
        self,
        users: dict[str, str] | None = None,
        refresh_tokens: frozenset[str] | None = None,
        lifetime: int = 300,
    ) -> None:
        self.identity: Final = Identity.make()
        self.server: Final = HttpServer(self._reply)
        self._users: Final = users or {}
        self._refresh_tokens: Final = refresh_tokens
        self._lifetime: Final = lifetime

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__()

    @property
    def realm(self) -> str:
        """The URL tokens are asked for at."""
        return f"{self.server.url}/token"

    def _reply(self, request: Seen) -> Reply:
        if request.method == "POST":
            form = parse_qs(request.body.decode())
            if self._refresh_tokens is None:
                return Reply(404)
            if form["refresh_token"][0] not in self._refresh_tokens:
                return Reply(401)
            return self._token("access_token", form["scope"][0].split())
        if self._users and not self._known(request.headers.get("authorization", "")):
            return Reply(401)
        return self._token("token", parse_qs(urlsplit(request.path).query).get("scope", []))

    def _known(self, authorization: str) -> bool:
        scheme, _, encoded = authorization.partition(" ")
        user, _, password = base64.b64decode(encoded or "").decode().partition(":")
        return scheme == "Basic" and bool(password) and self._users.get(user) == password

    def _token(self, member: str, scopes: list[str]) -> Reply:
        now = int(dt.datetime.now(tz=dt.UTC).timestamp())
        access = [
            {"type": kind, "name": name, "actions": actions.split(",")}
            for kind, name, actions in (scope.split(":") for scope in scopes)
        ]
        claims = {
            "iss": ISSUER,
            "sub": "",
            "aud": SERVICE,
            "nbf": now - 60,
            "iat": now,
            "exp": now + self._lifetime,
            "jti": uuid.uuid4().hex,
            "access": access,
        }
        der = self.identity.certificate.public_bytes(serialization.Encoding.DER)
        headers = {"x5c": [base64.b64encode(der).decode()]}
        token = jwt.encode(claims, self.identity.key, algorithm="RS256", headers=headers)
        body = json.dumps({member: token, "expires_in": self._lifetime}).encode()
        return Reply(200, {"Content-Type": "application/json"}, body)


@contextmanager
def docker_registry(
    storage: Path,
    work: Path,
    *,
    users: dict[str, str] | None = None,
    tokens: TokenServer | None = None,
    tls: Identity | None = None,
    clients: Path | None = None,
    prefix: str = "/",
) -> Iterator[str]:
    """Run a registry; skip the calling test where the program is missing.

    Args:
        storage: its content; several registries may serve one directory one after the other.
        work: for its configuration.
        users: passwords by name, for Basic authentication.
        tokens: for token authentication.
        tls: speak TLS, as this.
        clients: with TLS, the authority of the certificates that clients must show.
        prefix: where the API begins, before `/v2/`; with a slash at both ends.

    Yields:
        `127.0.0.1:PORT`, once it listens.
    """
    require_tools("docker-registry", *(["htpasswd"] if users else []))
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(storage)},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {"addr": "127.0.0.1:0", "prefix": prefix},
    }
    if tls is not None:
        certificate, key = tls.write(made_directory(work / "tls"))
        config["http"] |= {
            "tls": {
                "certificate": str(certificate),
                "key": str(key),
                "clientcas": [str(clients)] if clients else [],
            }
        }
    if users:
        path = work / "htpasswd"
        path.write_text(
            "".join(run_tool("htpasswd", "-Bbn", "-C", "4", *pair) for pair in users.items())
        )
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(path)}}
    if tokens is not None:
        bundle, _ = tokens.identity.write(work)
        config["auth"] = {
            "token": {
                "realm": tokens.realm,
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(bundle),
            }
        }
    path = work / "registry.yml"
    # Every JSON document is a YAML document.
    path.write_text(json.dumps(config))
    process = subprocess.Popen(
        ["docker-registry", "serve", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        rest = threading.Thread(target=process.stderr.read)
        try:
            host = _listening(process)
            # Nobody may fill the pipe: the registry would wait for us.
            rest.start()
            yield host
        finally:
            process.terminate()
            process.wait(timeout=10)
            if rest.ident is not None:
                rest.join()


def made_directory(path: Path) -> Path:
    """Make a directory, unless it is there, and return it."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def _listening(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        _, found, address = line.partition("listening on ")
        if found:
            return address.split('"')[0].split()[0].rstrip(",")
    raise AssertionError(f"docker-registry did not start: {''.join(said)[-2000:]}")
