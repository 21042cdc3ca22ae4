"""References: the published grammar, normalised as clients do."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapcore.errors import InvalidArgument
from snapcore.oci import Reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:12", "docker.io/library/debian:12"),
        ("user/app", "docker.io/user/app:latest"),
        ("index.docker.io/debian", "docker.io/library/debian:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("reg.example/app@" + DIGEST, "reg.example/app@" + DIGEST),
        ("reg.example/app:v1@" + DIGEST, "reg.example/app:v1@" + DIGEST),
        ("reg.example/a_b/c--d/e.f:T_1.2-x", "reg.example/a_b/c--d/e.f:T_1.2-x"),
        ("UPPER/app", "UPPER/app:latest"),
    ],
)
def test_parse(text: str, normal: str) -> None:
    parsed = Reference.parse(text)
    assert str(parsed) == normal
    assert Reference.parse(normal) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/app",
        "reg.example/",
        "reg.example/App",
        "reg.example/app:",
        "reg.example/app:" + "x" * 129,
        "reg.example/app:-v",
        "reg.example/a//b",
        "reg.example/../b",
        "reg.example/a..b",
        "reg.example/app@sha256:abc",
        "reg.example/app@",
        "reg.example/app v",
        "reg.example/app\n",
        "-host.example/app",
        "http://reg.example/app",
        "reg.example/" + "a" * 300,
        "reg.example:port/app",
    ],
)
def test_refuse(text: str) -> None:
    with pytest.raises(InvalidArgument, match="reference"):
        Reference.parse(text)


def test_object_prefers_the_digest() -> None:
    assert Reference.parse("reg.example/app:v1@" + DIGEST).object == DIGEST
    assert Reference.parse("reg.example/app:v1").object == "v1"
    assert Reference.parse("reg.example/app:v1").name == "reg.example/app"


@given(st.text(alphabet=string.printable, max_size=60))
def test_any_text_parses_to_a_fixed_point_or_is_refused(text: str) -> None:
    try:
        parsed = Reference.parse(text)
    except InvalidArgument:
        return
    assert Reference.parse(str(parsed)) == parsed
