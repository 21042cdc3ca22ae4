"""Fixtures of the registry room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.content import content_store
from support.targets import FakeTarget

from snapcore.content import ContentStore
from snapcore.locks import Owner


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ContentStore]:
    """An empty content store. Ask for it before `census`: its owner file stays open."""
    root = tmp_path / "store"
    root.mkdir()
    owner = Owner(str(root))
    yield content_store(str(root), owner)
    owner.close()


@pytest.fixture
def target() -> Iterator[FakeTarget]:
    """A registry that takes pushes."""
    with FakeTarget() as server:
        yield server
