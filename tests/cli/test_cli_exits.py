"""Every error has one exit code, one sentence, and no traceback."""

from __future__ import annotations

import errno
import signal

import pytest

import snapcore.errors
from snapcore.cli import __main__ as entry
from snapcore.cli.exits import (
    EXIT_CODES,
    Interrupted,
    as_ours,
    culprit,
    exit_code,
    sentence,
)
from snapcore.errors import (
    AlreadyExists,
    ContractError,
    DataLoss,
    DigestMismatch,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    RefusedInput,
    ResourceExhausted,
    SnapcoreError,
    Unavailable,
    Unimplemented,
)

TABLE: list[tuple[BaseException, int]] = [
    (FailedPrecondition("x"), 1),
    (Unimplemented("x"), 1),
    (PermissionDenied("x"), 1),
    (DataLoss("x"), 1),
    (ContractError("x"), 1),
    (InvalidArgument("x"), 2),
    (NotFound("x"), 3),
    (AlreadyExists("x"), 4),
    (RefusedInput("x"), 5),
    (DigestMismatch("x"), 5),
    (Unavailable("x"), 6),
    (ResourceExhausted("x"), 7),
    (OSError(errno.ENOSPC, "No space left on device"), 7),
    (OSError(errno.EACCES, "Permission denied"), 1),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1),
    (KeyboardInterrupt(), 130),
    (Interrupted(signal.SIGINT), 130),
    (Interrupted(signal.SIGTERM), 143),
    (KeyError("bug"), 1),
]


@pytest.mark.parametrize(("error", "code"), TABLE, ids=lambda v: type(v).__name__)
def test_code(error: BaseException, code: int) -> None:
    assert exit_code(as_ours(error)) == code


def test_no_class_of_the_tree_is_forgotten() -> None:
    classes = {
        value
        for value in vars(snapcore.errors).values()
        if isinstance(value, type) and issubclass(value, SnapcoreError)
    }
    assert classes - {SnapcoreError} <= {type(error) for error, _ in TABLE}


def test_a_class_comes_before_its_base() -> None:
    kinds = [kind for kind, _ in EXIT_CODES]
    for position, kind in enumerate(kinds):
        assert not any(issubclass(later, kind) for later in kinds[position + 1 :])


@pytest.mark.parametrize(("error", "code"), TABLE, ids=lambda v: type(v).__name__)
def test_run_says_it_in_one_line(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_arguments: object) -> None:
        raise error

    monkeypatch.setattr(entry, "invoke", fail)
    assert entry.run([]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("snapcore: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_groups_are_unwrapped() -> None:
    inner = DigestMismatch("layer 'sha256:aa' is not what it says")
    group = ExceptionGroup("outer", [ValueError("x"), ExceptionGroup("inner", [inner])])
    assert culprit(group) is inner
    signals = BaseExceptionGroup("outer", [inner, Interrupted(signal.SIGTERM)])
    assert exit_code(culprit(signals)) == 143
    assert isinstance(culprit(ExceptionGroup("o", [ValueError("x")])), ValueError)


def test_sentence_is_harmless() -> None:
    text = sentence(NotFound("no 'a\x1b[31m'\nsecond\udcff"))
    assert text == "no 'a\\x1b[31m' second\\udcff"


def test_sentence_of_a_bug_names_its_class() -> None:
    assert "internal error: KeyError: 'x'" in sentence(KeyError("x"))


def test_sentence_of_nothing() -> None:
    assert sentence(NotFound()) == "NotFound"


def test_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["--no-such-flag"]) == 2
    assert entry.run(["no-such-verb"]) == 2
    assert entry.run(["digest"]) == 2
    assert entry.run(["config", "show", "--format", "xml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition(":")[0] for line in err.splitlines()] == ["snapcore"] * 4
    assert "--no-such-flag" in err
    assert "no-such-verb" in err
