"""How indexes of layers are published: one artifact for an image, about its manifest.

Each blob of it is the index of one layer, which an annotation names. Whoever reads one checks it
against that layer as far as that can be done; see `IndexTrust`.
"""

from __future__ import annotations

from typing import Final

ARTIFACT_TYPE: Final = "application/vnd.snapcore.layer.indexes.v1"
LAYER_ANNOTATION: Final = "snapcore.io/layer.digest"
"""On a blob of the artifact: digest of the layer that it is the index of."""
