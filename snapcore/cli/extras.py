"""Verbs that need what only an extra of the distribution installs."""

from __future__ import annotations

import importlib.util

from snapcore.errors import Unimplemented


def need_service(what: str) -> None:
    """Say what to install, unless it is.

    Args:
        what: needs it, such as `serving`.

    Raises:
        Unimplemented: something of `snapcore[service]` is not there.
    """
    if not all(importlib.util.find_spec(name) for name in ("grpc", "re2")):
        raise Unimplemented(f"{what} needs gRPC and RE2: pip install 'snapcore[service]'")


def need_metrics() -> None:
    """Say what to install for metrics, unless it is.

    Raises:
        Unimplemented: something of `snapcore[metrics]` is not there.
    """
    if not importlib.util.find_spec("prometheus_client"):
        raise Unimplemented("metrics need Prometheus's client: pip install 'snapcore[metrics]'")
