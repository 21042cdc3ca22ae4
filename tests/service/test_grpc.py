"""What all other tests of this room need."""

import pytest


def test_grpc_is_installed() -> None:
    pytest.importorskip("grpc", reason="not installed: snapcore[service], so nothing is tested")
