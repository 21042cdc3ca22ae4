"""The owner label: on all that a client of the service made, and never seen by that client.

It keeps our collector from snapshots whose records only the client has. The client must not
notice it: containerd writes labels, counts them, and filters by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from snapcore.labels import OWNER
from snapcore.snapshots import Info

_VALUE: Final = "service"
_PATH: Final = f"labels.{OWNER}"


def owned(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels to store for those that a client gave."""
    return {**labels, OWNER: _VALUE}


def owned_paths(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the field paths of an update, such that it sets the owner and nobody else can.

    None at all replace all labels, and so they stay.
    """
    return (*(path for path in paths if path != _PATH), _PATH) if paths else ()


def is_owned(info: Info) -> bool:
    """Tell whether a client of the service made a snapshot."""
    return OWNER in info.labels


def shown(info: Info) -> Info:
    """Return an info as its client gave it."""
    return replace(info, labels={k: v for k, v in info.labels.items() if k != OWNER})
