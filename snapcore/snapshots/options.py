"""Checking the options of a backend against its schema."""

from __future__ import annotations

from collections.abc import Mapping

from snapcore.errors import InvalidArgument
from snapcore.snapshots.types import Option, Options, OptionValue


def check_options(name: str, schema: Mapping[str, Option], given: Mapping[str, object]) -> Options:
    """Check options as a TOML table or a caller gives them, and fill in the defaults.

    Args:
        name: of the backend.
        schema: from `snapcore_options`.
        given: option values by key; a list may be a list or a tuple.

    Returns:
        A value for each option of the schema.

    Raises:
        InvalidArgument: an unknown key, a wrong type, or a value that is no choice.
    """
    for key in given:
        if key not in schema:
            known = ", ".join(sorted(schema)) or "none"
            raise InvalidArgument(
                f"unknown option '[plugins.{name}] {key}'; known options: {known}"
            )
    return {
        key: _value(name, key, option, given[key]) if key in given else option.default
        for key, option in schema.items()
    }


def _value(name: str, key: str, option: Option, value: object) -> OptionValue:
    checked: OptionValue
    match value:
        # bool first: it is a subclass of int.
        case bool() if option.kind is bool:
            checked = value
        case int() if option.kind is int and not isinstance(value, bool):
            checked = value
        case str() if option.kind is str:
            checked = value
        case list() | tuple() if _is_list(option) and all(isinstance(v, str) for v in value):
            checked = tuple(value)
        case _:
            kind = "list of strings" if _is_list(option) else option.kind.__name__
            raise InvalidArgument(
                f"option '[plugins.{name}] {key}' is {value!r}, and must be of type {kind}"
            )
    chosen = checked if isinstance(checked, tuple) else (checked,)
    for each in chosen if option.choices else ():
        if each not in option.choices:
            raise InvalidArgument(
                f"option '[plugins.{name}] {key}' is {each!r}, and must be one of"
                f" {', '.join(option.choices)}"
            )
    return checked


def _is_list(option: Option) -> bool:
    return isinstance(option.default, tuple)
