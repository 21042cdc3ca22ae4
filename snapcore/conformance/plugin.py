"""The pytest plugin that comes with snapcore: it does nothing but know the suite's marker.

It is loaded into every pytest run of an environment that has snapcore, so it imports nothing of
it, prints nothing and changes no run that does not use the suite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, for suites that allow known ones only (`--strict-markers`)."""
    config.addinivalue_line(
        "markers", "long: takes many seconds (conformance checks of snapcore, `-m 'not long'`)"
    )
