"""Documents say what is there: links lead somewhere, and nothing public is left out."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from snapcore import errors, labels
from snapcore.snapshots.hookspecs import ModuleSpec, SnapshotterSpec
from snapcore.snapshots.types import Capability

REPO: Final = Path(__file__).resolve().parents[1]
PAGES: Final = sorted(
    [*REPO.glob("*.md"), *REPO.glob("docs/**/*.md"), *REPO.glob("plugins/*/README.md")]
)
_LINK: Final = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_local_links_lead_somewhere(page: Path) -> None:
    dead = [
        target
        for target in _LINK.findall(page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not dead


def test_the_readme_names_the_two_commands() -> None:
    text = (REPO / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text


def test_every_error_is_documented() -> None:
    text = (REPO / "docs/errors.md").read_text()
    assert [name for name in errors.__all__ if f"`{name}`" not in text] == []


def test_every_label_is_documented() -> None:
    text = (REPO / "docs/labels.md").read_text()
    keys = [
        value
        for name, value in vars(labels).items()
        if name.isupper() and isinstance(value, str) and "/" in value
    ]
    assert [key for key in keys if f"`{key}" not in text] == []


def test_every_hook_and_capability_is_documented() -> None:
    text = (REPO / "docs/contract.md").read_text()
    hooks = [
        name
        for spec in (SnapshotterSpec, ModuleSpec)
        for name in vars(spec)
        if not name.startswith("_")
    ]
    assert [hook for hook in hooks if f"`{hook}" not in text] == []
    assert [word.value for word in Capability if f"`{word}`" not in text] == []


def test_every_dependency_is_documented() -> None:
    text = (REPO / "docs/dependencies.md").read_text()
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = [re.split(r"[<>=!~\[ ]", requirement)[0] for requirement in wanted]
    assert [name for name in names if f"| {name} " not in text] == []


def test_every_dependency_is_pinned() -> None:
    pins = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (REPO / "constraints.txt").read_text().splitlines()
    }
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = {re.split(r"[<>=!~\[ ]", requirement)[0].lower() for requirement in wanted}
    assert names <= pins


@pytest.mark.long
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "sphinx", "-q", "-W", "-E", "-b", "html")
    site = tmp_path / "site"
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "trees"), str(REPO / "docs"), str(site)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    contract = (site / "reference/contract.html").read_text()
    assert "snapcore.snapshots.hookspecs.Backend.prepare" in contract
    assert "durability" in (site / "reference/configuration.html").read_text()
    assert "snapcore-images-mount" in (site / "reference/cli.html").read_text()


def test_every_page_is_in_the_index() -> None:
    text = (REPO / "docs/index.md").read_text()
    pages = {
        str(page.relative_to(REPO / "docs").with_suffix(""))
        for page in (REPO / "docs").rglob("*.md")
    }
    listed = {line.strip() for line in text.splitlines()}
    assert {p for p in pages - listed if not p.startswith("adr/")} == {"index"}


def test_no_lock_file_with_addresses_is_committed() -> None:
    text = (REPO / "constraints.txt").read_text()
    assert re.fullmatch(r"(?:[A-Za-z0-9_.-]+==[A-Za-z0-9_.+-]+\n)+", text)
