"""Documents that attack by JSON itself: what two parsers would read in two ways, or never end."""

from __future__ import annotations

from functools import partial
from typing import Final

from snapcore.oci.manifest import MAX_DOCUMENT_BYTES
from support.hostile.press import FOREIGN, HostileDocument, Spell, manifest, replaced

DEEP: Final = b'"x":' + b"[" * 100_000 + b"]" * 100_000 + b","
DEEP_OBJECTS: Final = b'"x":' + b'{"x":' * 50_000 + b"1" + b"}" * 50_000 + b","
PADDING: Final = b" " * MAX_DOCUMENT_BYTES
BOM: Final = b"\xef\xbb\xbf"
BEGIN: Final = partial(replaced, b"{")


def _spelled(name: str, attacks: str, spell: Spell, says: str = "malformed") -> HostileDocument:
    return HostileDocument(name, attacks, manifest(spell=spell), says=says)


SPELLINGS: Final[tuple[HostileDocument, ...]] = (
    _spelled("duplicate-key", "one key twice: readers keep the first or the last",
             BEGIN(b'{"schemaVersion":1,'), "duplicate"),
    _spelled("duplicate-layers", "the list of layers twice", BEGIN(b'{"layers":[],'), "duplicate"),
    _spelled("case-layers", "`Layers`: Go takes it, Python does not", BEGIN(b'{"Layers":[],'),
             "duplicate"),
    _spelled("case-media-type", "`MEDIATYPE` likewise", BEGIN(b'{"MEDIATYPE":"a/b",'),
             "duplicate"),
    _spelled("duplicate-digest", "a layer's digest twice",
             replaced(b'"layers": [{', b'"layers": [{"digest":"%s",' % str(FOREIGN).encode()),
             "duplicate"),
    _spelled("case-digest", "a layer's `Digest` likewise",
             replaced(b'"layers": [{', b'"layers": [{"Digest":"%s",' % str(FOREIGN).encode()),
             "duplicate"),
    _spelled("escaped-key", "a key spelt with an escape: the same key once more",
             BEGIN(b'{"\\u006cayers":[],'), "duplicate"),
    _spelled("bom", "a byte order mark", lambda data: BOM + data),
    _spelled("utf-16", "another encoding", lambda data: data.decode().encode("utf-16")),
    _spelled("utf-8-bad", "bytes that are no UTF-8", BEGIN(b'{"x":"\xff",')),
    _spelled("utf-8-overlong", "a slash in two bytes", BEGIN(b'{"x":"\xc0\xaf",')),
    _spelled("surrogate", "half a surrogate pair in an annotation",
             BEGIN(b'{"annotations":{"a":"\\ud800"},')),
    _spelled("surrogate-key", "half a surrogate pair in a key",
             BEGIN(b'{"annotations":{"\\udfff":"a"},')),
    _spelled("deep-arrays", "100,000 arrays: recursion", BEGIN(b"{" + DEEP)),
    _spelled("deep-objects", "50,000 objects: recursion", BEGIN(b"{" + DEEP_OBJECTS)),
    _spelled("integer-5000-digits", "an integer that takes minutes",
             BEGIN(b'{"x":' + b"9" * 5000 + b",")),
    _spelled("number-nan", "a number that is none", BEGIN(b'{"x":NaN,')),
    _spelled("trailing-comma", "what some parsers forgive", replaced(b'"layers"', b',"layers"')),
    _spelled("comment", "a comment", BEGIN(b"{/*x*/")),
    _spelled("second-document", "a second document after the first", lambda data: data + data),
    _spelled("control-character", "a raw newline in a string", BEGIN(b'{"x":"\n",')),
    _spelled("nothing", "no document", lambda _: b""),
    _spelled("an-array", "an array of a manifest", lambda data: b"[" + data + b"]"),
    _spelled("null", "null", lambda _: b"null"),
    _spelled("html", "a login page, with the registry's word that it is a manifest",
             lambda _: b"<html><body>Please sign in</body></html>"),
    _spelled("4-MiB", "a document past its limit", lambda data: data + PADDING, "4194304"),
)  # fmt: skip
