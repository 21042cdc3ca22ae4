#!/usr/bin/env python3
"""Set up this checkout: Debian packages if root, then `.venv` with everything in it.

Standard library only: this runs before anything is installed. Doing it again costs a fraction
of a second; a change of a pyproject.toml or of constraints.txt makes it install again.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
VENV = REPO / ".venv"
STAMP = VENV / ".snapcore-setup"
SYSTEM = Path("/")
POLICY = Path("/usr/sbin/policy-rc.d")
SEARCH_PATH = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
# Installed first and used without build isolation: pinned like the rest, and downloaded once.
BUILD_TOOLS = ("hatchling", "editables")


@dataclass(frozen=True)
class Tool:
    """A program that tests, demo or benchmarks use.

    Attributes:
        program: name on PATH.
        package: Debian package that has it.
        purpose: what is left out without it.
        service: systemd unit that the package would enable, which nobody here wants.
        files: what else tells, by being there, that it is installed.
    """

    program: str
    package: str
    purpose: str
    service: str = ""
    files: tuple[str, ...] = ()


TOOLS = (
    Tool("docker-registry", "docker-registry", "tests and demo pull from it", "docker-registry"),
    Tool("htpasswd", "apache2-utils", "tests with basic authentication"),
    Tool("skopeo", "skopeo", "tests that push and convert images"),
    Tool("umoci", "umoci", "tests that compare with another unpacker"),
    Tool("runc", "runc", "tests that run a program in a mounted image"),
    Tool("mmdebstrap", "mmdebstrap", "tests on a real Debian root filesystem"),
    Tool("mkfs.ext4", "e2fsprogs", "benchmarks and tests on a filesystem of their own"),
    Tool("mkfs.btrfs", "btrfs-progs", "tests of reflink copies"),
    Tool("fsck.erofs", "erofs-utils", "tests that compare our EROFS images with another reader"),
    Tool("strace", "strace", "tests that watch system calls"),
    Tool("chromium", "chromium", "long tests of the page that `gc --graph` writes"),
    Tool("gcc", "gcc", "building pyfuse3 for snapcore-fuse"),
    Tool("pkg-config", "pkg-config", "building pyfuse3 for snapcore-fuse"),
    Tool("fusermount3", "fuse3", "snapcore-fuse without root"),
    Tool("bsdtar", "libarchive-tools", "tests that compare the tar reader with libarchive"),
    Tool("go", "golang-go", "tests on layers that another project's library wrote"),
    Tool(
        "go",
        "golang-github-containerd-stargz-snapshotter-dev",
        "the library that writes eStargz layers for tests",
        files=("usr/share/gocode/src/github.com/containerd/stargz-snapshotter/estargz/build.go",),
    ),
    Tool("systemd-analyze", "systemd", "tests of the unit in deploy/"),
    # No program tells of these headers; pkg-config is asked for them when pyfuse3 is built.
    Tool(
        "pkg-config",
        "libfuse3-dev",
        "building pyfuse3 for snapcore-fuse",
        files=("usr/include/fuse3/fuse.h",),
    ),
)
# Besides those above, with `--bench`.
BENCH_TOOLS = (
    Tool("containerd", "containerd", "benchmarks beside it", "containerd"),
    Tool("npm", "npm", "building the image of the benchmarks"),
    Tool("pigz", "pigz", "building that image; containerd and tar inflate with it"),
)
# Besides those above, with `--containerd`.
CONTAINERD_TOOLS = (
    Tool("containerd", "containerd", "tests under it", "containerd"),
    Tool(
        "go",
        "golang-github-containerd-containerd-dev",
        "containerd's own tests of a snapshotter",
        files=(
            "usr/share/gocode/src/github.com/containerd/containerd/snapshots/testsuite/testsuite.go",
        ),
    ),
    Tool("protoc", "protobuf-compiler", "the test that generated messages fit their source"),
)
# Comes as source only and needs the tools above, so one distribution may have to be left out.
NEEDS_COMPILER = {"plugins/fuse": "pyfuse3"}


def main(arguments: Sequence[str] = ()) -> int:
    """Set everything up, with what the `arguments` ask for besides; return the exit code.

    Args:
        arguments: `--bench` for benchmarks, `--containerd` for tests under containerd.
    """
    if sys.version_info < (3, 11):  # noqa: UP036  an old interpreter is told so
        print("snapcore needs Python 3.11 or newer", file=sys.stderr)
        return 1
    tools = [*TOOLS]
    for option, more in (("--bench", BENCH_TOOLS), ("--containerd", CONTAINERD_TOOLS)):
        tools += more if option in arguments else ()
    missing = missing_tools(tools)
    if missing or not can_make_venv():
        install_packages(missing)
        report(missing_tools(tools))
    if not STAMP.exists() or STAMP.read_text() != fingerprint():
        failure = install_python()
        if failure:
            return failure
    compile_packages()
    return 0


def missing_tools(tools: Sequence[Tool] = TOOLS) -> list[Tool]:
    """Return the tools that are not on this machine, wherever they might come from."""
    return [tool for tool in tools if not is_installed(tool)]


def is_installed(tool: Tool) -> bool:
    """Tell whether a tool's program and files are there."""
    program = shutil.which(tool.program, path=SEARCH_PATH)
    return program is not None and all((SYSTEM / file).exists() for file in tool.files)


def can_make_venv() -> bool:
    """Tell whether `venv` can put pip into an environment (Debian splits that off)."""
    return VENV.exists() or importlib.util.find_spec("ensurepip") is not None


def report(missing: Sequence[Tool]) -> None:
    """Say what is left out; never stop for it, the Python part works without."""
    if not missing:
        return
    print("Not installed, so what needs it is left out:", file=sys.stderr)
    for tool in missing:
        print(f"  {tool.program:16} {tool.purpose}", file=sys.stderr)
    names = " ".join(sorted({tool.package for tool in missing}))
    print(f"On Debian: apt-get install --no-install-recommends {names}", file=sys.stderr)


def install_packages(missing: Sequence[Tool]) -> None:
    """Install Debian packages, when root and apt are there."""
    if os.geteuid() != 0 or shutil.which("apt-get", path=SEARCH_PATH) is None:
        return
    packages = sorted({tool.package for tool in missing})
    if not can_make_venv():
        packages.append("python3-venv")
    print(f"Installing Debian packages: {' '.join(packages)}", flush=True)
    install = ("apt-get", "install", "-qq", "--no-install-recommends", "-y", *packages)
    with services_kept_down(missing):
        # A package list may be there and current: asking the mirror first is the slow way.
        if apt(*install):
            trouble = apt("apt-get", "update", "-qq") or apt(*install)
            print(trouble, end="\n" if trouble else "", file=sys.stderr)


def apt(*command: str) -> str:
    """Run apt without questions; return what it complains of, "" if it worked."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr.strip() or f"{command[0]} failed"


@contextlib.contextmanager
def services_kept_down(missing: Sequence[Tool]) -> Iterator[None]:
    """Let new packages neither start their services now nor at the next boot.

    Debian's invoke-rc.d asks policy-rc.d (status 101: forbidden). A policy that the
    administrator has already is left alone, and so are services that were here before.
    """
    ours = not os.path.lexists(POLICY)
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink()
        units = [tool.service for tool in missing if tool.service]
        if units and shutil.which("systemctl", path=SEARCH_PATH):
            subprocess.run(
                ["systemctl", "--quiet", "disable", *units], check=False, capture_output=True
            )


def projects() -> list[Path]:
    """Return the directories of all distributions of this repository, the core first."""
    return [REPO, *sorted(Path(p).parent for p in glob.glob(f"{REPO}/plugins/*/pyproject.toml"))]


def fingerprint() -> str:
    """Return what the environment depends on, as one hash."""
    digest = hashlib.sha256(f"{REPO}\n{sys.version}\n{sys.executable}\n".encode())
    files = [project / "pyproject.toml" for project in projects()]
    for path in [*files, REPO / "constraints.txt", Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def install_python() -> int:
    """Make `.venv` and install all distributions into it, editable; return the exit code."""
    print("Installing Python packages into .venv", flush=True)
    STAMP.unlink(missing_ok=True)
    pip = make_venv()
    common = ("install", "--quiet", "--disable-pip-version-check", "--no-input")
    pins = ("--constraint", str(REPO / "constraints.txt"))
    install = (*pip, *common, *pins)
    requirements: list[str] = []
    for project in projects():
        if can_build(install, project):
            requirements += ["--editable", f"{project}{extras(project)}"]
    for step in (BUILD_TOOLS, ("--no-build-isolation", *requirements)):
        done = subprocess.run([*install, *step], cwd=REPO, check=False)
        if done.returncode != 0:
            print("pip failed; see above. Is a package index within reach?", file=sys.stderr)
            return done.returncode
    STAMP.write_text(fingerprint())
    return 0


def compile_packages() -> None:
    """Write bytecode of our packages, as pip does for all that it installs, but what is editable.

    Where the environment forbids Python to write any, each command would compile all it imports.
    """
    packages = [
        str(found.parent) for each in projects() for found in each.glob("snapcore*/__init__.py")
    ]
    # What does not compile is for whoever imports it to say.
    subprocess.run(
        [str(VENV / "bin/python"), "-m", "compileall", "-qq", *packages],
        cwd=REPO,
        check=False,
    )


def can_build(install: Sequence[str], project: Path) -> bool:
    """Install what a distribution needs built here; say so and return False if that fails."""
    name = str(project.relative_to(REPO)) if project != REPO else ""
    package = NEEDS_COMPILER.get(name)
    if package is None:
        return True
    print(f"Building {package} for {name}", flush=True)
    done = subprocess.run([*install, package], cwd=REPO, check=False, capture_output=True)
    if done.returncode == 0:
        return True
    packages = "gcc pkg-config libfuse3-dev fuse3 python3-dev"
    print(f"{package} cannot be built, so {name} is left out.", file=sys.stderr)
    print(f"On Debian: apt-get install --no-install-recommends {packages}", file=sys.stderr)
    return False


def make_venv() -> list[str]:
    """Make `.venv` if it is not there or not sound; return how to call pip for it."""
    python = VENV / "bin/python"
    with_pip = importlib.util.find_spec("ensurepip") is not None
    sound = python.exists() and not run_quietly(str(python), "-c", "import encodings")
    if not sound:
        shutil.rmtree(VENV, ignore_errors=True)
        options = [] if with_pip else ["--without-pip"]
        subprocess.run([sys.executable, "-m", "venv", *options, str(VENV)], check=True)
    if not run_quietly(str(python), "-m", "pip", "--version"):
        return [str(python), "-m", "pip"]
    return [sys.executable, "-m", "pip", "--python", str(python)]


def run_quietly(*command: str) -> int:
    """Run a program for its exit code alone."""
    return subprocess.run(command, check=False, capture_output=True).returncode


def extras(project: Path) -> str:
    """Return all extras of a distribution in brackets, "" if it has none."""
    import tomllib  # not at the top: Python 3.10 shall get as far as its own message

    with (project / "pyproject.toml").open("rb") as file:
        names = tomllib.load(file)["project"].get("optional-dependencies", {})
    return f"[{','.join(sorted(names))}]" if names else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
