"""What the tests of this room share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.metastores import Clock

from snapcore.snapshots.metastore import MetaStore


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock, census: None) -> Iterator[MetaStore]:
    opened = MetaStore(str(tmp_path / "root"), clock=clock, token="t1")
    yield opened
    opened.close()
