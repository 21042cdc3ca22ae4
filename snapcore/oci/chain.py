"""Chain IDs: the name of a stack of layers (OCI image-spec, config.md, "Layer ChainID")."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from snapcore.oci.digest import Digest


def chain_ids(diff_ids: Sequence[Digest]) -> tuple[Digest, ...]:
    """Return the chain ID of each prefix of `diff_ids`, the base layer first.

    The first chain ID is the first diff ID itself; each next one is the sha256 of the chain ID
    below and the diff ID, joined by a space. Linear in the number of layers.
    """
    chain: list[Digest] = []
    for diff_id in diff_ids:
        if not chain:
            chain.append(diff_id)
        else:
            text = f"{chain[-1]} {diff_id}".encode()
            chain.append(Digest("sha256", hashlib.sha256(text).hexdigest()))
    return tuple(chain)


def chain_id(diff_ids: Sequence[Digest]) -> str:
    """Return the chain ID of the whole stack, or "" for no layers: the name of the empty parent."""
    return str(chain_ids(diff_ids)[-1]) if diff_ids else ""
