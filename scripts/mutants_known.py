"""Mutants of the native snapshotter that the conformance suite cannot catch, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a mutant.

    Attributes:
        verdict: `same` if it does the same by another way, so that there is nothing to catch;
            `unseen` if it is a fault that a check of the contract cannot bring about.
        why: the reason, in one sentence.
    """

    verdict: Literal["same", "unseen"]
    why: str


KNOWN: Final[dict[str, Known]] = {}
