"""`python -m snapcore_fuse.daemon ROOT < settings.json`: start the daemon of a state root."""

from __future__ import annotations

import os
import sys

import msgspec

from snapcore.faults import arm_as_told
from snapcore_fuse.daemon.process import BUSY, start
from snapcore_fuse.settings import Settings

_EXIT_BUSY = 75


def main() -> int:
    """Start it; return 0 once it answers, 75 if there is one, 1 with the reason on stderr."""
    if len(sys.argv) != 2:
        print("usage: python -m snapcore_fuse.daemon ROOT < settings.json", file=sys.stderr)
        return 2
    arm_as_told(os.environ)
    settings = msgspec.json.decode(sys.stdin.buffer.read(), type=Settings)
    trouble = start(sys.argv[1], settings, dict(os.environ))
    if trouble == BUSY:
        return _EXIT_BUSY
    print(trouble, end="\n" if trouble else "", file=sys.stderr)
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
