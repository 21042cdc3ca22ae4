"""Image references: `[host/]repository[:tag][@digest]`, by the published grammar.

Grammar: distribution/reference. A first component is a host if it has a dot or a colon, is
`localhost`, or has an upper-case letter; else the reference means Docker Hub and a bare name
its `library/` namespace, as every client does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from snapcore.errors import InvalidArgument
from snapcore.oci.digest import Digest

DEFAULT_HOST = "docker.io"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?\Z")
_PATH_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\Z")
_TAG = re.compile(r"\w[\w.-]{0,127}\Z", re.ASCII)
_MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed, normalised reference.

    Attributes:
        host: `name[:port]` of the registry as the user wrote it.
        repository: the path below the host.
        tag: "" if the reference has only a digest.
        digest: pins the content; wins over the tag.
    """

    host: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    def __str__(self) -> str:
        text = f"{self.host}/{self.repository}"
        if self.tag:
            text += f":{self.tag}"
        if self.digest:
            text += f"@{self.digest}"
        return text

    @property
    def name(self) -> str:
        """The reference without tag and digest: `host/repository`."""
        return f"{self.host}/{self.repository}"

    @property
    def object(self) -> str:
        """What to ask the registry for: the digest if there is one, else the tag."""
        return str(self.digest) if self.digest else self.tag

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse a reference; a missing tag and digest means `:latest`.

        Raises:
            InvalidArgument: the text is not a reference.
        """
        rest, at, digest_text = text.partition("@")
        digest = _digest(text, digest_text) if at else None
        head, slash, tail = rest.rpartition("/")
        name, colon, tag = tail.partition(":")
        host, repository = _split_host(head + slash + name)
        if colon and not _TAG.match(tag):
            raise InvalidArgument(f"bad tag {tag[:150]!r} in image reference {text[:300]!r}")
        if not _HOST.match(host):
            raise InvalidArgument(
                f"bad registry host {host[:150]!r} in image reference {text[:300]!r}"
            )
        parts = repository.split("/")
        if len(repository) + len(host) >= _MAX_NAME or not all(_PATH_PART.match(p) for p in parts):
            raise InvalidArgument(
                f"bad repository name {repository[:150]!r} in image reference {text[:300]!r}"
                " (lower-case letters, digits, and single . _ - between them)"
            )
        if not tag and digest is None:
            tag = "latest"
        return cls(host, repository, tag, digest)


def _digest(text: str, digest_text: str) -> Digest:
    try:
        return Digest.parse(digest_text)
    except InvalidArgument as error:
        raise InvalidArgument(f"bad image reference {text[:300]!r}: {error}") from error


def _split_host(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    named = "." in first or ":" in first or first == "localhost" or first != first.lower()
    if slash and named:
        host, repository = first, rest
    else:
        host, repository = DEFAULT_HOST, name
    if host == "index.docker.io":
        host = DEFAULT_HOST
    if host == DEFAULT_HOST and "/" not in repository:
        repository = f"library/{repository}"
    return host, repository
