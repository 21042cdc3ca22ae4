"""From a registry to a running program, through every backend that this host can do.

    make demo

Each step is a command that you could type; it is printed before it runs. Nothing outside the
repository is touched, and nothing stays.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from examples.demo.image import TAG, build_image
from examples.demo.registry import serve_layout
from snapcore.linux import umount
from snapcore.mount import mounts_below

WORK: Final = Path(__file__).resolve().parents[2] / "build" / "demo"
SNAPCORE: Final = Path(sys.executable).with_name("snapcore")
UNSHARED: Final = "--in-user-namespace"


def main(arguments: Sequence[str]) -> int:
    """Run the demonstration; return 1 if the backends disagree."""
    if os.geteuid() != 0 and UNSHARED not in arguments:
        return _again_in_a_user_namespace()
    _clean()
    WORK.mkdir(parents=True)
    try:
        return _show()
    finally:
        _clean()


def _show() -> int:
    _say("Building an image of this machine's own files")
    build_image(WORK / "layout")
    backends = _backends()
    digests: dict[str, str] = {}
    with serve_layout(WORK / "layout") as host:
        reference = f"{host}/demo/machine:{TAG}"
        _say(f"A registry serves it at {host}; pulling it into {' and '.join(backends)}")
        for backend in backends:
            start = time.monotonic()
            snapcore("--snapshotter", backend, "pull", "--plain-http", "--quiet", reference)
            print(f"  {time.monotonic() - start:.2f} s")
            digests[backend] = _digest(backend, reference)
    _say("The same tree on every backend" if _equal(digests) else "THE TREES DIFFER")
    for backend, digest in digests.items():
        print(f"  {backend:10} {digest}")
    _run_a_program(backends[0], reference)
    return 0 if _equal(digests) else 1


def _backends() -> list[str]:
    """Return the snapshotters that work here; say why the others do not."""
    usable = []
    for row in json.loads(snapcore("--format", "json", "plugins", "ls")):
        if row["kind"] != "snapshotter":
            continue
        if row["usable"]:
            usable.append(row["name"])
        else:
            print(f"  {row['name']} does not work here: {row['reason']}")
    return usable


def _digest(backend: str, reference: str) -> str:
    target = _target()
    snapcore("--snapshotter", backend, "images", "mount", reference, target)
    try:
        return snapcore("digest", target).split()[0]
    finally:
        snapcore("images", "unmount", target)


def _run_a_program(backend: str, reference: str) -> None:
    _say(f"Running a program in it, mounted by {backend}")
    target = _target()
    snapcore("--snapshotter", backend, "images", "mount", reference, target)
    try:
        print(run("chroot", target, "/bin/hello"), end="")
        print(run("chroot", target, "/bin/cat", "/etc/motd"), end="")
    finally:
        snapcore("images", "unmount", target)


def _target() -> str:
    target = WORK / "mnt"
    target.mkdir(exist_ok=True)
    return str(target)


def snapcore(*arguments: str) -> str:
    """Run the command line as a user would, and return what it prints."""
    return run(str(SNAPCORE), "--root", str(WORK / "root"), *arguments)


def run(*command: str) -> str:
    """Print a command, run it, and return its output.

    Raises:
        SystemExit: it fails; what it said is on stderr already.
    """
    shown = ["snapcore" if part == str(SNAPCORE) else part for part in command]
    print("  $", shlex.join(shown).replace(str(WORK), "build/demo"), flush=True)
    search = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    environment = {**os.environ, "PATH": search}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{shown[0]} failed with exit code {done.returncode}")
    return done.stdout


def _again_in_a_user_namespace() -> int:
    # Mounting needs root, or being root in a namespace of one's own (user_namespaces(7)).
    _say("Not root: trying in a user namespace")
    inside = ("unshare", "--user", "--map-root-user", "--mount", sys.executable, "-m")
    return subprocess.run([*inside, "examples.demo", UNSHARED], check=False).returncode


def _clean() -> None:
    for entry in mounts_below(str(WORK)):
        umount(entry.target)
    shutil.rmtree(WORK, ignore_errors=True)


def _equal(digests: dict[str, str]) -> bool:
    return len(set(digests.values())) == 1


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
