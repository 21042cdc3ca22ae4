"""Matching a host: patterns, kernel comparisons, labels."""

from __future__ import annotations

import pytest

from snapcore.config.match import HostFacts, NodeMatch, parse_kernel


@pytest.mark.parametrize(
    ("rules", "release", "holds"),
    [
        (">=6.7", "6.7", True),
        (">=6.7", "6.7.0-rc1", True),
        (">=6.7", "6.10.1", True),
        (">=6.7", "6.6.99", False),
        (">6.7", "6.7.0", False),
        (">6.7", "6.7.1", True),
        ("<=6.7", "6.7.0", True),
        ("<6.7", "6.7", False),
        ("<6.7", "5.10.0-28-amd64", True),
        ("==6.7", "6.7.0", True),
        ("==6.7", "6.7.1", False),
        ("!=6.7", "6.7.1", True),
        (">=6.1, <6.7", "6.5", True),
        (">=6.1, <6.7", "6.7", False),
        (">=6.1", "strange", False),
        ("", "strange", True),
    ],
)
def test_kernel(rules: str, release: str, holds: bool) -> None:
    match = NodeMatch(kernel=parse_kernel(rules, "here"))
    assert match.matches(HostFacts(kernel=release)) is holds


@pytest.mark.parametrize(
    ("pattern", "hostname", "fits"),
    [("gpu-*", "gpu-1", True), ("gpu-*", "GPU-1", False), ("", "any", True), ("a?", "abc", False)],
)
def test_hostname(pattern: str, hostname: str, fits: bool) -> None:
    assert NodeMatch(hostname=pattern).matches(HostFacts(hostname=hostname)) is fits


def test_all_labels_must_fit() -> None:
    match = NodeMatch(labels={"zone": "a", "disk": "ssd"})
    assert match.matches(HostFacts(labels={"zone": "a", "disk": "ssd", "more": "x"}))
    assert not match.matches(HostFacts(labels={"zone": "a"}))
    assert not match.matches(HostFacts(labels={"zone": "a", "disk": "hdd"}))
