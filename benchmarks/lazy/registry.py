"""Debian's docker-registry at the far end of a link, which counts what it is asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.lazy.link import FAR, Link
from benchmarks.programs import Failed, run, stop, undisturbed

_PORT: Final = 5000


@dataclass(frozen=True, slots=True)
class Registry:
    """A running registry.

    Attributes:
        host: how it is reached over the link.
        link: it is at whose far end.
        log: one line for each request.
    """

    host: str
    link: Link
    log: Path

    def requests(self) -> int:
        """Return how many requests it has answered so far."""
        return sum(1 for line in self.log.read_bytes().splitlines() if b' HTTP/1.1" ' in line)


@contextmanager
def registry(link: Link, place: Path) -> Iterator[Registry]:
    """Run a registry for the duration of a `with` block; `place` keeps what it holds."""
    config, log = place / "registry.yml", place / "registry.log"
    config.write_text(
        json.dumps(
            {
                "version": "0.1",
                "log": {"level": "error", "accesslog": {"disabled": False}},
                "storage": {"filesystem": {"rootdirectory": str(place / "blobs")}},
                "http": {"addr": f"0.0.0.0:{_PORT}"},
            }
        )
    )
    with log.open("wb") as out:
        server = subprocess.Popen(
            link.inside("docker-registry", "serve", str(config)),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(server, log)
        yield Registry(f"{FAR}:{_PORT}", link, log)
    finally:
        with undisturbed():
            stop(server, signal.SIGTERM)


def push(link: Link, layout: Path, tag: str) -> None:
    """Put the `latest` image of a layout into the registry, without crossing the link."""
    target = f"docker://127.0.0.1:{_PORT}/bench:{tag}"
    copy = ("skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false")
    run(*link.inside(*copy, f"oci:{layout}:latest", target))


def push_index(link: Link, tag: str, place: Path) -> None:
    """Make the index of an image's layers from a root of its own, and publish it.

    Args:
        link: whose registry; nothing crosses the link.
        tag: of the image.
        place: directory for the root, which is kept: the blobs are fetched once.
    """
    program = os.path.join(os.path.dirname(sys.executable), "snapcore")
    reference = f"127.0.0.1:{_PORT}/bench:{tag}"
    snapcore = link.inside(program, "--root", str(place / "maker"))
    run(*snapcore, "pull", "--quiet", "--no-unpack", "--plain-http", reference)
    run(*snapcore, "images", "index", "--push", "--plain-http", reference)


def _wait(server: subprocess.Popen[bytes], log: Path) -> None:
    probe = ("curl", "--silent", "--fail", "--retry", "50", "--retry-delay", "1")
    try:
        run(*probe, "--retry-connrefused", "--max-time", "2", f"http://{FAR}:{_PORT}/v2/")
    except Failed as error:
        said = log.read_text()[-2000:] if server.poll() is not None else str(error)
        raise Failed(f"docker-registry does not start: {said}") from error
