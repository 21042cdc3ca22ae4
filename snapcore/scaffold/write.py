"""Writing the files of a new snapshotter's distribution.

The templates beside this module are ordinary files; `$word` in them is replaced.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from string import Template
from typing import Final

from snapcore.errors import AlreadyExists, InvalidArgument, from_os_error

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_PLACES: Final = {
    "pyproject.toml": "pyproject.toml.tmpl",
    "README.md": "README.md.tmpl",
    ".gitignore": "gitignore.tmpl",
    ".github/workflows/test.yml": "workflows/test.yml.tmpl",
    "$package/__init__.py": "package/__init__.py.tmpl",
    "$package/plugin.py": "package/plugin.py.tmpl",
    "$package/py.typed": "package/py.typed.tmpl",
    "$package/snapshotter.py": "package/snapshotter.py.tmpl",
    "tests/test_conformance.py": "tests/test_conformance.py.tmpl",
}


@dataclass(frozen=True, slots=True)
class Plugin:
    """What was written.

    Attributes:
        name: of the snapshotter.
        distribution: what pip calls it.
        package: what is imported.
        directory: absolute path of all of it.
        files: paths below the directory.
    """

    name: str
    distribution: str
    package: str
    directory: str
    files: tuple[str, ...]


def new_plugin(name: str, directory: str = "") -> Plugin:
    """Write the distribution of a new snapshotter: all of it, or nothing.

    Args:
        name: of the snapshotter: lower-case letters, digits, single hyphens.
        directory: to make; `name` in the current one if "".

    Raises:
        InvalidArgument: the name is none.
        AlreadyExists: the directory is there already.
        SnapcoreError: it cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name!r} is no name for a snapshotter: use lower-case letters and digits, words"
            " joined by '-', beginning with a letter"
        )
    target = os.path.abspath(directory or name)
    words = _words(name)
    files = {Template(p).substitute(words): _render(t, words) for p, t in _PLACES.items()}
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.mkdir(target)
    except FileExistsError as error:
        raise AlreadyExists(f"{target!r} is there already; choose another directory") from error
    except OSError as error:
        raise from_os_error(error, f"directory {target!r}") from error
    try:
        for path, text in files.items():
            place = os.path.join(target, path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "x", encoding="utf-8") as stream:
                stream.write(text)
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, OSError):
            raise from_os_error(error, f"new plugin {target!r}") from error
        raise
    return Plugin(name, words["distribution"], words["package"], target, tuple(sorted(files)))


def _words(name: str) -> dict[str, str]:
    major, minor = version("snapcore").split(".")[:2]
    return {
        "name": name,
        "distribution": f"snapcore-{name}",
        "package": f"snapcore_{name.replace('-', '_')}",
        "cls": "".join(word.capitalize() for word in name.split("-")) + "Snapshotter",
        "version": f"{major}.{minor}",
        "next_version": f"{major}.{int(minor) + 1}",
    }


def _render(template: str, words: dict[str, str]) -> str:
    place = resources.files("snapcore.scaffold").joinpath("template", template)
    return Template(place.read_text(encoding="utf-8")).substitute(words)
