from __future__ import annotations

import pytest

from snapcore.errors import InvalidArgument
from snapcore.snapshots.options import check_options
from snapcore.snapshots.types import Option, OptionValue

SCHEMA = {
    "speed": Option(str, "fast", "", choices=("fast", "slow")),
    "level": Option(int, 3, ""),
    "careful": Option(bool, True, ""),
    "extra": Option(list, ("a",), ""),
    "modes": Option(list, (), "", choices=("x", "y")),
}


def test_defaults_are_filled_in() -> None:
    assert check_options("acme", SCHEMA, {}) == {
        "speed": "fast",
        "level": 3,
        "careful": True,
        "extra": ("a",),
        "modes": (),
    }


@pytest.mark.parametrize(
    ("key", "given", "value"),
    [
        ("speed", "slow", "slow"),
        ("level", -1, -1),
        ("careful", False, False),
        ("extra", ["x", "y"], ("x", "y")),
        ("extra", (), ()),
        ("modes", ["y"], ("y",)),
    ],
)
def test_values(key: str, given: object, value: OptionValue) -> None:
    found = check_options("acme", SCHEMA, {key: given})[key]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "given", "message"),
    [
        ("speed", "warp", "'warp', and must be one of fast, slow"),
        ("speed", 3, "of type str"),
        ("level", "3", "of type int"),
        ("level", True, "of type int"),
        ("level", 3.0, "of type int"),
        ("careful", 1, "of type bool"),
        ("extra", "abc", "list of strings"),
        ("extra", [1], "list of strings"),
        ("modes", ["x", "z"], "'z', and must be one of x, y"),
        ("Speed", "slow", "known options: careful, extra, level, modes, speed"),
    ],
)
def test_refusals_name_the_key(key: str, given: object, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_options("acme", SCHEMA, {key: given})
    assert f"[plugins.acme] {key}" in str(caught.value)
    assert message in str(caught.value)


def test_a_backend_without_options() -> None:
    assert check_options("acme", {}, {}) == {}
    with pytest.raises(InvalidArgument, match="known options: none"):
        check_options("acme", {}, {"a": 1})
