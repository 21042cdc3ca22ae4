"""The id maps that labels of a snapshot ask for."""

from __future__ import annotations

from snapcore import labels as label_keys
from snapcore.errors import InvalidArgument
from snapcore.mount import IdMap, IdMapping
from snapcore.snapshots.types import Labels


def id_mapping(labels: Labels) -> IdMapping | None:
    """Return the mapping that labels `…/uidmapping` and `…/gidmapping` ask for, None for none.

    A backend puts its `options` on the mounts; it can where the probe could (`remap_ids`).

    Raises:
        InvalidArgument: a map is malformed, or one stands without the other.
    """
    uids, gids = (
        labels.get(key, "") for key in (label_keys.SNAPSHOT_UIDMAP, label_keys.SNAPSHOT_GIDMAP)
    )
    if not uids and not gids:
        return None
    if not uids or not gids:
        raise InvalidArgument(
            f"labels {label_keys.SNAPSHOT_UIDMAP!r} and {label_keys.SNAPSHOT_GIDMAP!r} go"
            " together; give both"
        )
    return IdMapping(IdMap.parse(uids), IdMap.parse(gids))
