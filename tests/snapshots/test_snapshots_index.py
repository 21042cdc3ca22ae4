"""The hook by which a plugin makes indexes of layers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snapcore.errors import Unimplemented
from snapcore.oci import Descriptor, Digest
from snapcore.snapshots import can_index, index_with_plugin


def test_a_plugin_without_the_hook_makes_none(tmp_path: Path) -> None:
    assert not can_index("native")
    (tmp_path / "blob").write_bytes(b"")
    blob = os.open(tmp_path / "blob", os.O_RDONLY)
    layer = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(b""), 0)
    try:
        with pytest.raises(Unimplemented, match=r"'native'.*makes no indexes"):
            index_with_plugin("native", blob, layer, Digest.of(b""))
    finally:
        os.close(blob)
