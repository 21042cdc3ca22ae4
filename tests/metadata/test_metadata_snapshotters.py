"""Records of the backends that have state on a node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snapcore.errors import DataLoss
from snapcore.metadata import Metadata, open_metadata
from snapcore.metadata.snapshotters import OptionValue


@pytest.fixture
def metadata(tmp_path: Path, census: None) -> Iterator[Metadata]:
    opened = open_metadata(str(tmp_path))
    yield opened
    opened.close()


def test_options_come_back_with_their_types(metadata: Metadata) -> None:
    options: dict[str, OptionValue] = {
        "flag": True,
        "count": 1,
        "text": "1",
        "items": ("a", "b"),
        "none": (),
    }
    record = metadata.snapshotters.record("overlay", options)
    assert metadata.snapshotters.list() == (record,)
    assert record.options == options
    assert record.options["flag"] is True


def test_only_news_are_written(metadata: Metadata) -> None:
    store = metadata.snapshotters
    first = store.record("overlay", {"sync": False})
    assert store.record("overlay", {"sync": False}) == first
    changed = store.record("overlay", {"sync": True})
    assert changed.created == first.created == first.updated < changed.updated
    native = store.record("native", {})
    assert store.list() == (native, changed)


def test_a_damaged_row_is_data_loss(metadata: Metadata) -> None:
    metadata.snapshotters.record("overlay", {})
    with metadata.database.write() as connection:
        connection.execute("UPDATE snapshotters SET options = '[]'")
    with pytest.raises(DataLoss, match="'overlay'"):
        metadata.snapshotters.list()
