"""WWW-Authenticate, as registries write it and as they should not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapcore.registry.challenge import MAX_CHALLENGE_BYTES, Challenge, parse_challenges

BEARER = 'Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push"'


def test_bearer_with_commas_inside_quotes() -> None:
    assert parse_challenges(BEARER) == (
        Challenge(
            "bearer",
            {
                "realm": "https://auth.example/token",
                "service": "reg",
                "scope": "repository:a/b:pull,push",
            },
        ),
    )


def test_several_challenges_in_one_header() -> None:
    found = parse_challenges(f'Basic realm="x", {BEARER}, Negotiate')
    assert [challenge.scheme for challenge in found] == ["basic", "bearer", "negotiate"]
    assert found[0].parameters == {"realm": "x"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ()),
        ("Basic", (Challenge("basic"),)),
        (
            "Negotiate YWJj==, Basic realm=x",
            (Challenge("negotiate"), Challenge("basic", {"realm": "x"})),
        ),
        (r'Basic realm="a \"b\" \\c"', (Challenge("basic", {"realm": 'a "b" \\c'}),)),
        ("BASIC Realm = x", (Challenge("basic", {"realm": "x"}),)),
        ('Basic realm="first", realm="second"', (Challenge("basic", {"realm": "first"}),)),
        ('Basic realm="open', (Challenge("basic", {}),)),
        ("=garbage", ()),
        ("x" * (MAX_CHALLENGE_BYTES + 1), ()),
    ],
)
def test_edges(header: str, expected: tuple[Challenge, ...]) -> None:
    found = parse_challenges(header)
    assert found[: len(expected)] == expected if expected else found == ()


@given(st.text(alphabet='Bb ="\\,a=\t', max_size=60))
def test_any_text_is_parsed_without_a_failure(header: str) -> None:
    for challenge in parse_challenges(header):
        assert challenge.scheme == challenge.scheme.lower()
        assert challenge.scheme
