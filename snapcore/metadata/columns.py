"""How values stand in columns: JSON objects of text."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from snapcore.errors import DataLoss


def encode_texts(values: Mapping[str, str]) -> str:
    """Return a mapping of texts as a JSON object, sorted by key."""
    return msgspec.json.encode(dict(sorted(values.items()))).decode()


def decode_texts(column: str, where: str) -> dict[str, str]:
    """Return the mapping that `encode_texts` wrote.

    Args:
        column: the JSON text.
        where: names the row, for the error.

    Raises:
        DataLoss: it is something else.
    """
    try:
        return msgspec.json.decode(column, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise DataLoss(f"{where}: its row in the node database is damaged: {error}") from error


def without_empty(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that have a value: an empty one means that there is no such label."""
    return {key: value for key, value in labels.items() if value}
