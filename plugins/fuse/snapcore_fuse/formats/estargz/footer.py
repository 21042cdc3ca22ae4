"""The last bytes of an eStargz blob: an empty gzip member that says where the table begins.

Source: docs/estargz.md of stargz-snapshotter, "Footer"; the 47-byte form is the one of CRFS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from snapcore.errors import RefusedInput
from snapcore_fuse.formats.types import BlobRange

MAX_TABLE: Final = 64 << 20
"""Most compressed bytes of a table of contents."""
# Flags: extra field only. Time, extra flags and system are the writer's affair.
_HEADER: Final = rb"\x1f\x8b\x08\x04.{6}"
_OFFSET: Final = rb"([0-9a-f]{16})STARGZ"
_EMPTY: Final = rb"\x01\x00\x00\xff\xff\x00{8}"
_FORMS: Final = (
    (51, re.compile(_HEADER + rb"\x1a\x00SG\x16\x00" + _OFFSET + _EMPTY, re.DOTALL)),
    (47, re.compile(_HEADER + rb"\x16\x00" + _OFFSET + _EMPTY, re.DOTALL)),
)


@dataclass(frozen=True, slots=True)
class Footer:
    """What a footer says.

    Attributes:
        table: where the compressed table of contents lies.
    """

    table: BlobRange


def locate(tail: bytes, size: int) -> Footer:
    """Return where the table of contents is.

    Args:
        tail: the last bytes of the blob; 51 are enough, what is before them is not looked at.
        size: of the whole blob.

    Raises:
        RefusedInput: there is no footer, or it points outside of the blob.
    """
    for length, form in _FORMS:
        match = form.fullmatch(tail[-length:])
        if match is None:
            continue
        offset = int(match[1], 16)
        room = size - length - offset
        if not 0 < room <= MAX_TABLE:
            raise RefusedInput(
                f"the eStargz footer puts a table of contents at byte {offset} of {size};"
                f" it must have 1 … {MAX_TABLE} bytes"
            )
        return Footer(BlobRange(offset, room))
    raise RefusedInput("no eStargz footer at the end of the blob")
