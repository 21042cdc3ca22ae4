#!/usr/bin/env python3
"""Generate the Python modules of `snapcore/service/proto` anew, by a generator of its own.

It lives in an environment beside `.venv`, because it needs an older protobuf than we test with.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
PROTO = REPO / "snapcore/service/proto"
GENERATOR = REPO / "build/stubs"
# The second is what this generator imports; newer ones have dropped what it needs of it.
PACKAGES = ("grpcio-tools==1.74.0", "setuptools<81")


def main() -> int:
    """Generate; return the exit code."""
    python = GENERATOR / "bin/python"
    if not python.exists():
        venv.create(GENERATOR, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    names = [str(path.relative_to(REPO)) for path in sorted(PROTO.glob("*.proto"))]
    options = ("-I.", "--python_out=.", "--pyi_out=.")
    command = [str(python), "-m", "grpc_tools.protoc", *options, *names]
    return subprocess.run(command, cwd=REPO, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
