"""All checks in one table."""

from __future__ import annotations

from typing import Final

from snapcore.conformance.checks import (
    fidelity,
    labels,
    layers,
    lifecycle,
    races,
    rebase,
    refusals,
    remap,
    usage,
    views,
)
from snapcore.conformance.harness import Check

ALL_CHECKS: Final[tuple[Check, ...]] = (
    *lifecycle.CHECKS,
    *refusals.CHECKS,
    *labels.CHECKS,
    *views.CHECKS,
    *layers.CHECKS,
    *fidelity.CHECKS,
    *usage.CHECKS,
    *rebase.CHECKS,
    *races.CHECKS,
    *remap.CHECKS,
)
"""Every check; names are unique and stable."""
