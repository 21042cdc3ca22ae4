"""Histories: which can be explained by an order of the calls, and which not."""

from __future__ import annotations

import pytest

from snapcore.conformance.history import Call, Event, is_linearizable
from snapcore.snapshots import Kind

_PREPARE = Call("prepare", "k")
_COMMIT = Call("commit", "k", "a")
_REMOVE = Call("remove", "k")
_ACTIVE = (Kind.ACTIVE, "")
_COMMITTED = (Kind.COMMITTED, "")


@pytest.mark.parametrize(
    ("events", "end", "explained"),
    [
        pytest.param([], {}, True, id="nothing"),
        pytest.param([Event(_PREPARE, "", 0, 1)], {"k": _ACTIVE}, True, id="one"),
        pytest.param([Event(_PREPARE, "", 0, 1)], {}, False, id="lost"),
        pytest.param([Event(_PREPARE, "", 0, 9), Event(_REMOVE, "", 1, 8)], {}, True, id="at-once"),
        pytest.param(
            [Event(_REMOVE, "", 0, 1), Event(_PREPARE, "", 2, 3)], {}, False, id="too-early"
        ),
        pytest.param(
            [Event(_PREPARE, "", 0, 1), Event(_PREPARE, "", 2, 3)],
            {"k": _ACTIVE},
            False,
            id="two-winners",
        ),
        pytest.param(
            [
                Event(_PREPARE, "", 0, 1),
                Event(_COMMIT, "", 2, 9),
                Event(_REMOVE, "NotFound", 3, 8),
            ],
            {"a": _COMMITTED},
            True,
            id="one-of-two",
        ),
        pytest.param(
            [
                Event(_PREPARE, "", 0, 1),
                Event(_COMMIT, "NotFound", 2, 9),
                Event(_REMOVE, "NotFound", 3, 8),
            ],
            {},
            False,
            id="neither",
        ),
    ],
)
def test_an_order_is_found_if_there_is_one(
    events: list[Event], end: dict[str, tuple[Kind, str]], explained: bool
) -> None:
    assert is_linearizable(events, end) is explained


@pytest.mark.parametrize(
    ("call", "outcome"),
    [
        (Call("prepare", "n", parent="none"), "NotFound"),
        (Call("prepare", "n", parent="active"), "InvalidArgument"),
        (Call("prepare", "active", parent="base"), "AlreadyExists"),
        (Call("prepare", "n", parent="base"), ""),
        (Call("commit", "none", "base"), "AlreadyExists"),
        (Call("commit", "none", "n"), "NotFound"),
        (Call("commit", "base", "n"), "FailedPrecondition"),
        (Call("remove", "base"), "FailedPrecondition"),
        (Call("remove", "none"), "NotFound"),
        (Call("cleanup"), ""),
    ],
)
def test_outcomes_are_those_of_the_contract(call: Call, outcome: str) -> None:
    state = {"base": _COMMITTED, "active": (Kind.ACTIVE, "base")}
    assert call.expected(state)[0] == outcome
