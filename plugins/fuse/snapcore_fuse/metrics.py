"""`python -m snapcore_fuse.metrics STATE_ROOT`: print what a daemon counts, for Prometheus.

For the textfile collector of its node exporter, or anything else that runs a command now and then.
"""

from __future__ import annotations

import sys

from snapcore.errors import SnapcoreError, Unavailable
from snapcore_fuse.daemon.client import Daemon
from snapcore_fuse.daemon.metrics import render_absent
from snapcore_fuse.daemon.places import Places
from snapcore_fuse.settings import Settings


def main() -> int:
    """Print the metrics; return 0, or 1 with the reason on stderr. Starts no daemon."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m snapcore_fuse.metrics STATE_ROOT\n")
        return 2
    try:
        text = Daemon(Places(sys.argv[1]), Settings()).metrics()
    except Unavailable:
        text = render_absent()
    except SnapcoreError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
