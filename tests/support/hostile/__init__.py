"""The catalogue of hostile images: every case with what it attacks and its one verdict."""

from __future__ import annotations

from typing import Final

from support.hostile.bombs import BOMBS
from support.hostile.case import HostileLayer, unique
from support.hostile.documents import DOCUMENTS as DOCUMENTS
from support.hostile.grammar import GRAMMAR
from support.hostile.metadata import METADATA
from support.hostile.names import NAMES
from support.hostile.whiteouts import WHITEOUTS

LAYERS: Final[tuple[HostileLayer, ...]] = unique((*NAMES, *WHITEOUTS, *METADATA, *GRAMMAR, *BOMBS))
