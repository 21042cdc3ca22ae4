"""`serve`: snapshotters for containerd, on a unix socket, until a signal comes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from snapcore.cli.exits import Interrupted
from snapcore.cli.extras import need_metrics, need_service
from snapcore.cli.flags import Verb
from snapcore.cli.session import Session
from snapcore.cli.signals import wait_for_signal
from snapcore.errors import PermissionDenied

if TYPE_CHECKING:
    from snapcore.service import Observer
    from snapcore.snapshots import Snapshotter


@click.command("serve", cls=Verb)
@click.option(
    "--address", required=True, metavar="SOCKET", help="Unix socket, in a directory of its own."
)
@click.option(
    "--metrics-address",
    default="",
    metavar="HOST:PORT",
    help="Tell Prometheus there, at /metrics; port 0 means a free one.",
)
@click.pass_context
def serve(context: click.Context, address: str, metrics_address: str) -> None:
    """Serve snapshotters to containerd.

    All that are named by --snapshotter, else those of the configuration. SIGTERM ends it, within
    five seconds.
    """
    need_service("serving")
    if metrics_address:
        need_metrics()
    from snapcore.service import inherited, log_call, serving, socket_path, tell

    session = Session.of(context)
    path = socket_path(address)
    manager = session.environment.get("NOTIFY_SOCKET", "")
    listener = inherited(session.environment, os.getpid(), path)
    with session.node() as node:
        if node.read_only:
            raise PermissionDenied(f"cannot serve {node.config.root!r}: it is read-only for us")
        names = dict.fromkeys(node.snapshotters.default_names())
        snapshotters = [node.snapshotter(name) for name in names]
        what = f"serving {', '.join(names)} at {path}"
        observers: list[Observer] = [log_call]
        try:
            with ExitStack() as stack:
                if listener:
                    stack.enter_context(listener)
                if metrics_address:
                    url, observe = stack.enter_context(_measured(metrics_address, snapshotters))
                    observers.append(observe)
                    what += f", metrics at {url}"
                stack.enter_context(serving(path, snapshotters, observers, listener))
                _until_sigterm(manager, what)
        finally:
            tell(manager, "STATUS=stopped")


@contextmanager
def _measured(address: str, snapshotters: Sequence[Snapshotter]) -> Iterator[tuple[str, Observer]]:
    """Expose metrics during a `with` block, which has their URL and who must be told of calls."""
    from snapcore.service import Metrics, exposing

    metrics = Metrics(snapshotters)
    with exposing(address, metrics.registry) as url:
        try:
            yield url, metrics.observe
        finally:
            metrics.stop()


def _until_sigterm(manager: str, what: str) -> None:
    """Say that we are ready, and wait for SIGTERM, which is how a service is meant to end.

    Whoever was told may send it at once, so that saying it is part of the waiting. Ctrl-C is
    raised as ever.
    """
    from snapcore.service import notify, tell

    try:
        notify(manager, "READY=1", f"STATUS={what}")
        click.echo(f"snapcore: {what}", err=True)
        wait_for_signal()
    except Interrupted:
        tell(manager, "STOPPING=1")
