"""`config containerd`: what this node's containerd must be told of our snapshotters."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Final

import click

from snapcore.cli.flags import Verb
from snapcore.cli.output import write_json, write_text
from snapcore.cli.session import Session
from snapcore.errors import FailedPrecondition

if TYPE_CHECKING:
    from snapcore.service.snippet import Cri, Offer

_FALLBACK: Final = "2"
_SECONDS: Final = 10


@click.command("containerd", cls=Verb)
@click.option(
    "--address", default="", metavar="SOCKET", help="Where it is served.  [default: below state]"
)
@click.option(
    "--containerd-version",
    "version",
    default="",
    metavar="VERSION",
    help="1.6, 1.7 or 2.  [default: what is installed]",
)
@click.option(
    "--cri",
    type=click.Choice(("none", "classes", "default")),
    default="none",
    show_default=True,
    help="For Kubernetes: a runtime for each; besides, the first one by default.",
)
@click.pass_context
def containerd(context: click.Context, address: str, version: str, cri: Cri) -> None:
    """Print what to add to containerd's configuration.

    For the snapshotters that --snapshotter names, else those of the configuration, as `serve`
    would serve them here.
    """
    from snapcore.service import socket_path
    from snapcore.service.snippet import Release, containerd_config, containerd_notes, to_toml

    session = Session.of(context)
    settings = session.load().config
    path = socket_path(address or os.path.join(settings.state, "service", "socket"))
    found = version or _installed()
    release = Release.parse(found or _FALLBACK)
    offers = _offers(session)
    config = containerd_config(offers, path, release, cri)
    notes = list(containerd_notes(offers, release, cri))
    if not found:
        notes.insert(0, f"containerd was not found here; this is for {_FALLBACK}.x")
    if session.format == "json":
        write_json({"containerd": found, "notes": notes, "config": config})
        return
    names = " ".join(f"--snapshotter {offer.name}" for offer in offers)
    served = f"snapcore --root {settings.root} {names} serve --address {path}"
    lines = (f"For containerd {release.major}.{release.minor}, with", f"  {served}", *notes)
    write_text("".join(f"# {line}\n" for line in lines) + "\n" + to_toml(config))


def _offers(session: Session) -> list[Offer]:
    from snapcore.service.snippet import Offer

    offers = []
    with session.node() as node:
        probes = node.probe_all()
        for name in dict.fromkeys(node.snapshotters.default_names()):
            probe = probes.get(name)
            if probe is None or not probe.usable:
                reason = probe.reason if probe else "it is not installed"
                raise FailedPrecondition(
                    f"snapshotter {name!r} does not work here, as this user: {reason}"
                )
            offers.append(Offer(name, node.snapshotters.root_of(name), probe.capabilities))
    return offers


def _installed() -> str:
    """Return the release of the containerd that is found, "" for none."""
    command = ("containerd", "--version")
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    words = done.stdout.split()
    return words[2] if done.returncode == 0 and len(words) > 2 else ""
