"""The id maps that labels of a snapshot ask for, and what such a snapshot is not for.

What is written through mapped mounts carries other ids than a layer's on one backend (in an
overlay's upper directory, which containerd's mounters do not map) and a layer's on another (in
a copy). So on none of them is it a layer: it cannot be a target, and is not committed.
"""

from __future__ import annotations

from typing import Final

from snapcore import labels as label_keys
from snapcore.errors import FailedPrecondition, InvalidArgument
from snapcore.mount import IdMap, IdMapping
from snapcore.snapshots.types import Info, Kind, Labels

_KEYS: Final = (label_keys.SNAPSHOT_UIDMAP, label_keys.SNAPSHOT_GIDMAP)


def id_mapping(labels: Labels) -> IdMapping | None:
    """Return the mapping that labels `…/uidmapping` and `…/gidmapping` ask for, None for none.

    A backend puts its `options` on the mounts; it can where the probe could (`remap_ids`).

    Raises:
        InvalidArgument: a map is malformed, or one stands without the other.
    """
    uids, gids = (labels.get(key, "") for key in _KEYS)
    if not uids and not gids:
        return None
    if not uids or not gids:
        raise InvalidArgument(f"labels {_KEYS[0]!r} and {_KEYS[1]!r} go together; give both")
    return IdMapping(IdMap.parse(uids), IdMap.parse(gids))


def refuse_mapped(info: Info) -> None:
    """Refuse to make a layer of a snapshot that was prepared with id maps.

    Raises:
        FailedPrecondition: it was.
    """
    if any(info.labels.get(key) for key in _KEYS):
        raise FailedPrecondition(
            f"snapshot {info.name!r} was prepared with id maps, so that its files have other ids"
            " than a layer's; prepare one without them to apply and commit a layer"
        )


def check_maps_kept(info: Info, labels: Labels) -> None:
    """Check that an update leaves the id maps of an Active or View as they are.

    Its mounts are what prepare or view gave, and what was written through them stays.

    Args:
        info: the snapshot before the update.
        labels: its labels after it.

    Raises:
        InvalidArgument: a map would change.
    """
    if info.kind is Kind.COMMITTED:
        return
    for key in _KEYS:
        if labels.get(key, "") != info.labels.get(key, ""):
            raise InvalidArgument(
                f"label {key!r} of snapshot {info.name!r} is fixed since it was prepared; give"
                f" it as it is ({info.labels.get(key, '')!r}), or prepare another snapshot"
            )
