"""A root to collect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.collect import Root, open_root


@pytest.fixture
def root(tmp_path: Path, census: None) -> Iterator[Root]:
    """Yield an open root without a node."""
    with open_root(tmp_path) as opened:
        yield opened
