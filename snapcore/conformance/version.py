"""The version of the suite: that of the contract it checks, and a number that grows with it."""

from __future__ import annotations

from typing import Final

from snapcore.snapshots import CONTRACT_VERSION

SUITE_VERSION: Final = f"{CONTRACT_VERSION}.4"
"""Contract version, dot, edition: a later edition has more checks, and may fail who passed."""
