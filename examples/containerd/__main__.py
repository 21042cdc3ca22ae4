"""A container on a snapcore snapshotter, started by a containerd of its own.

    make demo-containerd

Each step is a command that you could type; it is printed before it runs. The containerd that this
machine may have is not touched, and nothing stays.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from support.ctr import PLUGIN, Daemons, Failed, containerd_node, run_quietly

from examples.demo.image import TAG, build_image
from snapcore.linux import umount
from snapcore.mount import mounts_below

NAME: Final = "demo/machine"
BACKEND: Final = "overlay"


def main() -> int:
    """Run the demonstration; return 1 if anything is left, or fails."""
    if os.geteuid() != 0 or shutil.which("containerd") is None:
        print("needs root and containerd (on Debian: apt-get install containerd)", file=sys.stderr)
        return 1
    # Not below the checkout: sockets have short names.
    place = Path(tempfile.mkdtemp(prefix="snapcore-demo-"))
    try:
        return _show(place)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        for entry in mounts_below(str(place)):
            umount(entry.target)
        shutil.rmtree(place)


def _show(place: Path) -> int:
    _say("Building an image of this machine's own files")
    build_image(place / "layout", over_layers=False)
    archive = place / "image.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(place / "layout", arcname=".")
    _say(f"Starting `snapcore serve` with {BACKEND}, and a containerd that has it as {PLUGIN!r}")
    with containerd_node(place, BACKEND, _printing(place)) as node:
        _say("Importing the image: containerd applies the layers where snapcore says")
        chosen = ("--snapshotter", PLUGIN)
        print(node.ctr("images", "import", *chosen, "--base-name", NAME, str(archive)), end="")
        print(node.ctr("snapshots", *chosen, "tree"), end="")
        _say("Running a program in a container")
        reference = f"{NAME}:{TAG}"
        print(node.ctr("run", "--rm", *chosen, reference, "one", "/bin/hello"), end="")
        print(node.ctr("run", "--rm", *chosen, reference, "two", "/bin/cat", "/etc/motd"), end="")
        _say("snapcore's collector leaves alone what is containerd's")
        print(node.snapcore("gc"), end="")
        _say("Removing the image: containerd's collector removes the snapshots")
        print(node.ctr("images", "rm", "--sync", reference), end="")
        return _what_is_left(node)


def _what_is_left(node: Daemons) -> int:
    names = node.snapcore("snapshots", "ls", "--quiet").split()
    directories = list((node.root / "snapshotters" / BACKEND / "snapshots").iterdir())
    print(f"  {len(names)} snapshots and {len(directories)} directories are left")
    return 1 if names or directories else 0


def _printing(place: Path) -> Callable[[Sequence[str]], str]:
    """Return what prints a command, without paths that mean nothing, and runs it."""

    def run(command: Sequence[str]) -> str:
        shown = shlex.join(command).replace(str(place), "$D")
        print("  $", shown.replace(f"{sys.executable} -m snapcore.cli", "snapcore"), flush=True)
        return run_quietly(command)

    return run


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
