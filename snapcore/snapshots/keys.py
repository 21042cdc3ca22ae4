"""The grammar of keys and names, and the rules for labels that are stored with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from snapcore import labels as label_rules
from snapcore.errors import InvalidArgument
from snapcore.snapshots.types import Info

MAX_KEY_BYTES: Final = 4096


def check_key(key: str, what: str = "key") -> None:
    """Check a key or name: 1 to 4096 bytes of UTF-8 without control characters.

    Args:
        key: what to check; it is compared as it is, without any normalisation.
        what: what to call it in the message.

    Raises:
        InvalidArgument: it breaks the grammar.
    """
    problem = _problem(key)
    if problem:
        raise InvalidArgument(f"bad snapshot {what} {key[:100]!r}: {problem}")


def is_key(key: str) -> bool:
    """Tell whether a snapshot can have this key or name at all."""
    return not _problem(key)


def stored_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels as they are stored: checked, and without those whose value is empty.

    Source: containerd, pkg/metadata/boltutil: an empty value deletes.

    Raises:
        InvalidArgument: a label breaks a rule of `snapcore.labels`, or is not UTF-8.
    """
    label_rules.check(labels)
    for key, value in labels.items():
        if not (_is_utf8(key) and _is_utf8(value)):
            raise InvalidArgument(f"label {key[:60]!r} is not valid UTF-8")
    return {key: value for key, value in labels.items() if value}


def updated_labels(
    current: Mapping[str, str], info: Info, fieldpaths: tuple[str, ...]
) -> dict[str, str]:
    """Return the labels of a snapshot after an update (`SnapshotterSpec.update`).

    Args:
        current: the labels it has.
        info: carries the new ones.
        fieldpaths: () or "labels" replaces all; `labels.<key>` sets one, an empty value
            deletes it.

    Raises:
        InvalidArgument: another field path, or a label that breaks a rule.
    """
    result = dict(current)
    for path in fieldpaths or ("labels",):
        head, _, key = path.partition(".")
        if path == "labels":
            result = dict(info.labels)
        elif head == "labels" and key:
            result[key] = info.labels.get(key, "")
        else:
            raise InvalidArgument(
                f"cannot update field {path!r} of snapshot {info.name!r}: only 'labels' and"
                " 'labels.<key>' can be changed"
            )
    return stored_labels(result)


def _problem(key: str) -> str:
    if not key:
        return "it is empty"
    if not _is_utf8(key):
        return "it is not valid UTF-8"
    size = len(key.encode())
    if size > MAX_KEY_BYTES:
        return f"it is {size} bytes long; at most {MAX_KEY_BYTES}"
    # C0, DEL and C1: the characters of Unicode category Cc.
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in key):
        return "it has a control character"
    return ""


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
