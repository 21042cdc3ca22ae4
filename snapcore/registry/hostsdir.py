"""A directory with a subdirectory for each registry: `certs.d` of containerd and docker.

A registry's own directory is tried under its names, then `_default`. In it lies a `hosts.toml`,
or else the certificates by which docker's older form is told: `*.crt` for authorities, `*.cert`
with `*.key` for ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from snapcore.errors import InvalidArgument, SnapcoreError, from_os_error
from snapcore.registry.hosts import ClientCertificate, HostConfig, Tls, endpoint_of
from snapcore.registry.hostsfile import HostEntry, HostsFile, parse_hosts_file
from snapcore.registry.network import EVERYWHERE

FILE: Final = "hosts.toml"
DEFAULT: Final = "_default"
_PORTS: Final = {True: ":80", False: ":443"}


@dataclass(frozen=True, slots=True)
class HostsDirectories:
    """The resolver that reads configuration directories, anew for each registry it is asked for.

    Attributes:
        paths: the directories; the first that has something for a registry is the one.
        base: how a host is reached apart from what the directories say.
    """

    paths: tuple[str, ...]
    base: Callable[[str], HostConfig]

    def __call__(self, host: str) -> tuple[HostConfig, ...]:
        """Return the endpoints for `host`: the mirrors in the file's order, then the server.

        Raises:
            InvalidArgument: a malformed `hosts.toml`; the message names it.
            PermissionDenied: a directory or file may not be read.
        """
        directory = self.find(host)
        if not directory:
            return (self.base(host),)
        found = read_directory(directory)
        named = os.path.basename(directory) != DEFAULT
        mirrors = [self._endpoint(entry, host, named) for entry in found.mirrors]
        return (*mirrors, self._endpoint(found.server, host, named))

    def find(self, host: str) -> str:
        """Return the directory that speaks for `host`, "" if there is none."""
        for path in self.paths:
            for name in directory_names(host):
                directory = os.path.join(path, name)
                if _is_directory(directory):
                    return directory
        return ""

    def problems(self) -> Iterator[str]:
        """Check every registry's directory; yield a message for each that could not be used."""
        for path in self.paths:
            if not _is_directory(path):
                continue
            for name in _listed(path):
                directory = os.path.join(path, name)
                try:
                    if _is_directory(directory):
                        self._check(directory)
                except SnapcoreError as error:
                    text = str(error)
                    yield text if directory in text else f"{directory}: {text}"

    def _check(self, directory: str) -> None:
        found = read_directory(directory)
        for entry in (*found.mirrors, found.server):
            Tls(entry.ca_files, clients=entry.clients).context()

    def _endpoint(self, entry: HostEntry, host: str, named: bool) -> HostConfig:
        itself = not entry.endpoint or _is_same(entry, host)
        base = self.base(host if itself else entry.endpoint)
        skip = base.tls.skip_verify if entry.skip_verify is None else entry.skip_verify
        return replace(
            base,
            endpoint=endpoint_of(entry.endpoint or host),
            plain_http=entry.scheme == "http" if entry.scheme else base.plain_http,
            tls=Tls(base.tls.ca_files + entry.ca_files, skip, base.tls.clients + entry.clients),
            path=entry.path,
            capabilities=entry.capabilities,
            namespace="" if itself else host,
            headers=entry.headers,
            connect_timeout=entry.connect_timeout,
            proxy=entry.proxy,
            # Whoever writes a host down here has said that it may be reached.
            reach=EVERYWHERE if named or entry.endpoint else base.reach,
        )


def directory_names(host: str) -> tuple[str, ...]:
    """Return the names under which a registry's directory is looked for, the best first.

    Args:
        host: as references write it, `name[:port]`.
    """
    if "/" in host or host.startswith("."):
        return (DEFAULT,)
    name, colon, port = host.rpartition(":")
    # Containerd's form for file systems whose names take no colon.
    plain = (f"{name}_{port}_",) if colon and port.isdigit() else ()
    return (*plain, host, DEFAULT)


def read_directory(directory: str) -> HostsFile:
    """Read what a registry's directory says.

    Raises:
        InvalidArgument: a malformed `hosts.toml`.
        PermissionDenied: something in it may not be read.
    """
    path = os.path.join(directory, FILE)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise from_os_error(error, f"{path!r}") from error
    # An empty file says nothing, in containerd too.
    return parse_hosts_file(data, path) if data else HostsFile(server=_certificates(directory))


def _certificates(directory: str) -> HostEntry:
    names = _listed(directory)
    paths = {name: os.path.join(os.path.abspath(directory), name) for name in names}
    authorities = [paths[name] for name in names if name.endswith(".crt")]
    clients = [
        ClientCertificate(paths[name], paths.get(f"{name.removesuffix('.cert')}.key", ""))
        for name in names
        if name.endswith(".cert")
    ]
    return HostEntry(ca_files=tuple(authorities), clients=tuple(clients))


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError as error:
        raise from_os_error(error, f"{directory!r}") from error


def _is_directory(path: str) -> bool:
    try:
        os.stat(os.path.join(path, ""))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise from_os_error(error, f"{path!r}") from error
    except ValueError as error:
        raise InvalidArgument(f"not a path: {path!r}") from error
    return True


def _is_same(entry: HostEntry, host: str) -> bool:
    port = _PORTS[entry.scheme == "http"]
    bare = entry.endpoint.removesuffix(port)
    return bare in (host.removesuffix(port), endpoint_of(host))
