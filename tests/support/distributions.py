"""Distributions as pip would have installed them, made for one test."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

THIRD_PARTY: Final = Path(__file__).resolve().parents[1] / "thirdparty"
"""Holds the installed distribution `acme-snapcore` 1.2.3; see its sources."""


def install(
    site: Path,
    distribution: str,
    modules: dict[str, str],
    entry_points: dict[str, dict[str, str]],
    version: str = "1.0",
) -> None:
    """Write a distribution into a directory of installed ones.

    Args:
        site: the directory.
        distribution: its name.
        modules: source text by module name.
        entry_points: by group, then by name.
        version: its version.
    """
    site.mkdir(exist_ok=True)
    for name, source in modules.items():
        (site / f"{name}.py").write_text(textwrap.dedent(source))
    metadata = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    )
    lines = [
        line
        for group, entries in entry_points.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()), "")
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))


@contextmanager
def installed(*sites: Path) -> Iterator[None]:
    """Have what is installed in these directories importable and announced, until the end."""
    with pytest.MonkeyPatch.context() as patch:
        before = set(sys.modules)
        for site in sites:
            patch.syspath_prepend(site)
        try:
            yield
        finally:
            for name in set(sys.modules) - before:
                path = getattr(sys.modules[name], "__file__", None) or ""
                if path.startswith(tuple(f"{site}/" for site in sites)):
                    del sys.modules[name]
