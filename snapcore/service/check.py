"""`python -m snapcore.service.check SOCKET`: whether a service takes calls, by its exit code.

For orchestrators that run a command to find out, since theirs ask over TCP only (Kubernetes).
"""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Final

from snapcore.errors import SnapcoreError
from snapcore.service.client.connection import Connection, Method
from snapcore.service.health import SERVICE
from snapcore.service.proto import health_pb2

SECONDS: Final = 5.0
"""How long an answer may take."""

_CHECK: Final = Method(SERVICE, "Check", health_pb2.HealthCheckResponse)


def main() -> int:
    """Ask; return 0 if it takes calls, or 1 with the reason on stderr."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m snapcore.service.check SOCKET\n")
        return 2
    try:
        with closing(Connection(sys.argv[1], {}, SECONDS)) as connection:
            answer = connection.call(_CHECK, health_pb2.HealthCheckRequest())
    except SnapcoreError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        sys.stderr.write("it is about to end\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
