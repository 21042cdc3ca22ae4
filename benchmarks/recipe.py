"""What the images are made of: one step for each layer, as a Dockerfile would have them.

Packages come from the registries this machine is set up for, so an image differs from the one
built a month later; its facts are kept beside it. The tools run here, not in the image, but for
Debian's own, and no script of a package from npm is run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from benchmarks.programs import run

SUITE: Final = "bookworm"
_FORMAT: Final = 1
"""Goes up when the same recipe gives other layers."""


class Step(Protocol):
    """Makes one layer by changing a tree."""

    @property
    def name(self) -> str:
        """What the layer is called in the facts."""

    def __call__(self, tree: Path, /) -> None:
        """Change the tree.

        Raises:
            SystemExit: a program fails; with what it said.
        """


@dataclass(frozen=True, slots=True)
class Debian:
    """A minimal Debian, always the lowest layer: it wants an empty directory."""

    name: str = "debian"

    def __call__(self, tree: Path) -> None:
        """Bootstrap."""
        run("mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", SUITE, str(tree))


@dataclass(frozen=True, slots=True)
class Apt:
    """Debian packages, unpacked and configured inside the tree; the package lists stay."""

    packages: tuple[str, ...]
    name: str = "apt"

    def __call__(self, tree: Path) -> None:
        """Install. Fetching is done by this machine's apt, with its own settings."""
        options = [f"Dir={tree}", f"DPkg::Chroot-Directory={tree}", "APT::Sandbox::User=root"]
        apt = ("apt-get", "-qq", *(f"-o{option}" for option in options))
        quiet = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        run(*apt, "update", environment=quiet)
        run(*apt, "install", "-y", "--no-install-recommends", *self.packages, environment=quiet)
        run(*apt, "clean", environment=quiet)


@dataclass(frozen=True, slots=True)
class Wheels:
    """Python packages in a directory: few large libraries among many modules."""

    directory: str
    packages: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name it by what is in it."""
        return f"wheels {self.packages[0]}…"

    def __call__(self, tree: Path) -> None:
        """Install wheels for this machine's own Python."""
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--no-compile")
        where = ("--only-binary", ":all:", "--target", str(tree / self.directory))
        run(*pip, *where, *self.packages)


@dataclass(frozen=True, slots=True)
class Npm:
    """JavaScript packages with all they depend on: tens of thousands of small files."""

    directory: str
    packages: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name it by what is in it."""
        return f"npm {self.packages[0]}…"

    def __call__(self, tree: Path) -> None:
        """Install."""
        prefix = tree / self.directory
        prefix.mkdir(parents=True)
        quiet = ("--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts")
        run("npm", "install", "--prefix", str(prefix), *quiet, *self.packages)


@dataclass(frozen=True, slots=True)
class Application:
    """A few files of one's own: what changes most often lies on top."""

    files: int
    name: str = "application"

    def __call__(self, tree: Path) -> None:
        """Write them: owned by a user, some linked, one setuid, one with a capability."""
        top = tree / "srv/app"
        for number in range(self.files):
            directory = top / f"module{number % 40:02}"
            directory.mkdir(parents=True, exist_ok=True)
            seed = hashlib.sha256(str(number).encode()).hexdigest()
            file = directory / f"part{number:04}.py"
            file.write_text(f"VALUE = {seed!r}\n" * (1 + number % 50))
            os.chown(file, 1000, 1000)
            if number % 25 == 0:
                os.link(file, directory / f"same{number:04}.py")
                (directory / f"link{number:04}.py").symlink_to(file.name)
        tool = tree / "usr/local/bin/tool"
        shutil.copyfile(tree / "usr/bin/true", tool)
        tool.chmod(0o4755)
        capable = tree / "usr/local/bin/capable"
        shutil.copyfile(tree / "usr/bin/true", capable)
        capable.chmod(0o755)
        # VFS_CAP_REVISION_2 with cap_net_bind_service, permitted and effective.
        value = bytes.fromhex("0100000200040000000000000000000000000000")
        os.setxattr(capable, "security.capability", value)


@dataclass(frozen=True, slots=True)
class Deletions:
    """What a careful Dockerfile ends with: whole trees and single files go, some are replaced."""

    directories: tuple[str, ...]
    every: int
    name: str = "deletions"

    def __call__(self, tree: Path) -> None:
        """Delete directories, make the first anew, and go through what npm brought."""
        for directory in self.directories:
            shutil.rmtree(tree / directory)
        kept = tree / self.directories[0]
        kept.mkdir()
        (kept / "README").write_text("the rest is hidden\n")
        for number, file in enumerate(sorted((tree / "opt").rglob("*.md"))[:: self.every]):
            # One in four gets new content: written anew, as editors and package managers do.
            file.unlink()
            if number % 4 == 0:
                file.write_text(f"replaced {number}\n")


@dataclass(frozen=True, slots=True)
class Recipe:
    """An image.

    Attributes:
        name: of the image.
        steps: one for each layer, the lowest first.
    """

    name: str
    steps: Sequence[Step]

    @property
    def key(self) -> str:
        """Return a directory name that changes with anything the image is made of."""
        made_of = hashlib.sha256(f"{_FORMAT} {SUITE} {self.steps!r}".encode())
        return f"{self.name}-{made_of.hexdigest()[:12]}"


_COMPILER: Final = ("build-essential", "git", "python3", "python3-pip", "ca-certificates")

FULL: Final = Recipe(
    "full",
    (
        Debian(),
        Apt(_COMPILER),
        Wheels("opt/science", ("scikit-learn==1.*", "pandas==2.*", "scipy==1.*", "numpy==2.*")),
        Wheels("opt/columns", ("pyarrow", "polars==1.*", "sympy==1.*")),
        Wheels("opt/vision", ("opencv-python-headless==4.*", "matplotlib==3.*")),
        Npm(
            "opt/site",
            ("next@14", "react@18", "react-dom@18", "@mui/material@5", "@mui/icons-material@5"),
        ),
        Npm(
            "opt/tools",
            (
                "storybook@7", "@babel/preset-env@7", "webpack@5", "webpack-cli@5", "typescript@5",
                "eslint@8", "jest@29", "aws-sdk@2", "rxjs@7", "core-js@3", "lodash@4",
                "three@0.160", "monaco-editor@0.45",
            ),
        ),
        Application(2000),
        Deletions(("usr/share/doc", "var/lib/apt/lists", "usr/share/locale"), 7),
    ),
)  # fmt: skip
"""The image of `make bench`."""

QUICK: Final = Recipe(
    "quick",
    (
        Debian(),
        Wheels("opt/science", ("numpy==2.*",)),
        Npm("opt/tools", ("webpack@5", "webpack-cli@5", "core-js@3", "lodash@4", "rxjs@7")),
        Application(2000),
        Deletions(("usr/share/doc", "usr/share/locale"), 7),
    ),
)
"""The image of `make bench-quick`: the same kinds of layers, a tenth of the size."""
