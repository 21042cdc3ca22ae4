"""What was set aside goes after a month, as far as it can be deleted."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from snapcore.content import quarantine
from snapcore.content.quarantine import Quarantine


def test_what_cannot_be_deleted_does_not_keep_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "bad", "c"):
        (tmp_path / name).touch()
    unlink = os.unlink

    def refuse(path: str) -> None:
        if path.endswith("bad"):
            raise PermissionError(1, "Operation not permitted", path)
        unlink(path)

    monkeypatch.setattr(os, "unlink", refuse)
    aside = Quarantine(str(tmp_path))
    assert aside.expire() == 0
    monkeypatch.setattr(quarantine, "_KEPT_SECONDS", -3600)
    with caplog.at_level(logging.WARNING):
        assert aside.expire() == 2
    assert os.listdir(tmp_path) == ["bad"]
    assert "bad" in caplog.text
