"""Archives that must be refused, and what the refusal must say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from support import tars
from support.tars import END, GNU, V7, file, header, long_name, pax, tar


@dataclass(frozen=True, slots=True)
class Hostile:
    """An uncompressed archive and words of its refusal."""

    data: bytes
    says: str


def _named(name: bytes) -> bytes:
    return tar(pax([(b"path", name)]), header(b"harmless"))


def _pax(*records: tuple[bytes, bytes], type: bytes = b"0") -> bytes:  # noqa: A002 - the field
    return tar(pax(records), header(b"f", type=type))


def _pax_body(body: bytes) -> bytes:
    return tar(pax(body), header(b"f"))


_INNER: Final = header(b"inner")

HOSTILE: Final[Mapping[str, Hostile]] = {
    # names
    "dotdot": Hostile(tar(file(b"../x")), "'..'"),
    "dotdot-inside": Hostile(tar(file(b"a/../b")), "'..'"),
    "dotdot-after-sibling": Hostile(tar(file(b"a/b"), file(b"a/..")), "'..'"),
    "dotdot-absolute": Hostile(tar(file(b"/../x")), "'..'"),
    "dotdot-last": Hostile(tar(tars.directory(b"a/..")), "'..'"),
    "dotdot-pax-path": Hostile(_named(b"../x"), "'..'"),
    "dotdot-long-name": Hostile(tar(long_name(b"../x"), header(b"harmless", magic=GNU)), "'..'"),
    "dotdot-prefix": Hostile(tar(header(b"x", prefix=b"..")), "'..'"),
    "dotdot-hardlink": Hostile(tar(tars.hardlink(b"h", b"../x")), "'..'"),
    "dotdot-pax-linkpath": Hostile(_pax((b"linkpath", b"a/../../x"), type=b"1"), "'..'"),
    "component-256": Hostile(_named(b"c" * 256), "255"),
    "component-256-sibling": Hostile(
        tar(file(b"a/b"), pax([(b"path", b"a/" + b"c" * 256)]), header()), "255"
    ),
    "path-4096": Hostile(_named(b"/".join([b"c" * 99] * 41)), "4095"),
    "path-4096-sibling": Hostile(
        tar(file(b"d/" * 1999 + b"f"), file(b"d/" * 1999 + b"f" * 98)), "4095"
    ),
    "depth": Hostile(_named(b"d/" * 2048 + b"f"), "2048 components"),
    "root-file": Hostile(tar(header(b".")), "root"),
    "root-symlink": Hostile(tar(tars.symlink(b"./", b"etc")), "root"),
    "root-empty-file": Hostile(tar(header(b"")), "root"),
    "nul-pax-path": Hostile(_named(b"a\0b"), "NUL"),
    "nul-pax-linkpath": Hostile(_pax((b"linkpath", b"a\0b"), type=b"2"), "NUL"),
    "nul-long-name": Hostile(tar(long_name(b"a\0b"), header(magic=GNU)), "NUL"),
    "file-with-slash": Hostile(tar(header(b"f/")), "ends in '/'"),
    "symlink-to-nothing": Hostile(tar(header(type=b"2")), "to nothing"),
    "symlink-4096": Hostile(_pax((b"linkpath", b"t" * 4096), type=b"2"), "4095"),
    "hardlink-to-nothing": Hostile(tar(header(type=b"1")), "to nothing"),
    "hardlink-to-root": Hostile(tar(tars.hardlink(b"h", b"./")), "root"),
    # numbers
    "checksum": Hostile(tar(header(checksum=b"000000\0 ")), "checksum"),
    "checksum-junk": Hostile(tar(header(checksum=b"00x000\0 ")), "malformed number"),
    "checksum-second": Hostile(tar(file(b"a"), header(b"b", checksum=b"1234567 ")), "at byte 512"),
    "magic": Hostile(tar(header(magic=b"ustar\x0001")), "neither"),
    "octal-8": Hostile(tar(header(mode=b"0000648\0")), "malformed number"),
    "octal-underscore": Hostile(tar(header(mode=b"00_0644\0")), "malformed number"),
    "octal-minus": Hostile(tar(header(uid=b"-000001\0")), "malformed number"),
    "octal-inner-nul": Hostile(tar(header(uid=b"000\x00001\0")), "malformed number"),
    "octal-prefix": Hostile(tar(header(uid=b"0o00001\0")), "malformed number"),
    "uid-negative": Hostile(tar(header(uid=-1)), "owner"),
    "uid-minus-one": Hostile(tar(header(uid=2**32 - 1)), "owner"),
    "gid-2-32": Hostile(tar(header(gid=2**32)), "owner"),
    "uid-pax-minus-one": Hostile(_pax((b"uid", b"4294967295")), "owner"),
    "uid-pax-junk": Hostile(_pax((b"uid", b"1x")), "not a number"),
    "uid-pax-sign": Hostile(_pax((b"uid", b"+1")), "not a number"),
    "uid-pax-newline": Hostile(_pax((b"uid", b"1\n")), "not a number"),
    "gid-pax-negative": Hostile(_pax((b"gid", b"-1")), "not a number"),
    "mode-negative": Hostile(tar(header(mode=-1)), "mode"),
    "size-negative": Hostile(tar(header(size=-512)), "bytes of data"),
    "size-2-62": Hostile(tar(header(size=2**62)), "bytes of data"),
    "size-huge-base256": Hostile(tar(header(size=b"\xbf" + b"\xff" * 11)), "bytes of data"),
    "size-pax-2-62": Hostile(_pax((b"size", b"4611686018427387904")), "bytes of data"),
    "size-pax-negative": Hostile(_pax((b"size", b"-1")), "not a number"),
    "mtime-nan": Hostile(_pax((b"mtime", b"nan")), "not a time"),
    "mtime-inf": Hostile(_pax((b"mtime", b"inf")), "not a time"),
    "mtime-exponent": Hostile(_pax((b"mtime", b"1e400")), "not a time"),
    "mtime-no-fraction": Hostile(_pax((b"mtime", b"1.")), "not a time"),
    "mtime-minus-fraction": Hostile(_pax((b"mtime", b"1.-5")), "not a time"),
    "mtime-2-63": Hostile(_pax((b"mtime", b"9223372036854775808")), "64 bits"),
    "mtime-base256": Hostile(tar(header(mtime=2**70)), "64 bits"),
    # payload where none belongs
    **{
        f"size-on-{name}": Hostile(
            tar(header(b"d", type=kind, size=512, link=b"t", major=1, minor=3), _INNER),
            "bytes of data",
        )
        for name, kind in {
            "hardlink": b"1",
            "symlink": b"2",
            "character": b"3",
            "block": b"4",
            "directory": b"5",
            "fifo": b"6",
        }.items()
    },
    "size-on-directory-pax": Hostile(
        tar(pax([(b"size", b"512")]), header(b"d", type=b"5"), _INNER), "bytes of data"
    ),
    "size-on-v7-directory": Hostile(
        tar(header(b"d/", type=b"\0", magic=V7, size=512), _INNER), "bytes of data"
    ),
    # devices
    "device-0-0": Hostile(tar(tars.device(b"w", 0, 0)), "whiteout"),
    "device-major": Hostile(tar(tars.device(b"w", 4096, 0)), "out of range"),
    "device-minor": Hostile(tar(tars.device(b"w", 1, 2**20)), "out of range"),
    "device-major-base256": Hostile(tar(tars.device(b"w", 2**33 + 1, 0)), "out of range"),
    "device-negative": Hostile(tar(tars.device(b"w", -1, 0, block=True)), "out of range"),
    "device-v7": Hostile(tar(header(b"w", type=b"3", magic=V7)), "v7"),
    # types
    **{
        f"type-{kind!r}": Hostile(tar(header(type=kind)), "unknown entry type")
        for kind in (b"8", b"9", b"A", b"D", b"M", b"N", b"V", b"X", b"\xff", b" ")
    },
    "sparse-gnu": Hostile(tar(header(type=b"S", magic=GNU)), "sparse"),
    "sparse-pax-0": Hostile(_pax((b"GNU.sparse.size", b"99")), "sparse"),
    "sparse-pax-1": Hostile(_pax((b"GNU.sparse.major", b"1")), "sparse"),
    "sparse-star": Hostile(_pax((b"SCHILY.realsize", b"99")), "sparse"),
    # PAX grammar
    "pax-length-short": Hostile(_pax_body(b"9 path=abc\n"), "does not fit"),
    "pax-length-long": Hostile(_pax_body(b"13 path=abc\n"), "does not fit"),
    "pax-length-zero": Hostile(_pax_body(b"0 path=abc\n"), "no length"),
    "pax-length-padded": Hostile(_pax_body(b"011 path=ab\n"), "no length"),
    "pax-length-sign": Hostile(_pax_body(b"+11 path=a\n"), "no length"),
    "pax-length-tiny": Hostile(_pax_body(b"2 path=abc\n"), "does not fit"),
    "pax-length-huge": Hostile(_pax_body(b"9" * 5000 + b" a=b\n"), "no length"),
    "pax-no-equals": Hostile(_pax_body(b"8 path\n\n"), "no valid key"),
    "pax-empty-key": Hostile(_pax_body(b"5 =v\n"), "no valid key"),
    "pax-nul-key": Hostile(_pax((b"a\0b", b"v")), "no valid key"),
    "pax-trailing-nul": Hostile(_pax_body(tars.pax_record(b"path", b"a") + b"\0"), "no length"),
    "pax-no-newline": Hostile(_pax_body(b"10 path=ab"), "does not fit"),
    "pax-records": Hostile(_pax_body(b"5 a=\n" * 4097), "4096"),
    "pax-size": Hostile(tar(header(type=b"x", size=(1 << 20) + 1)), "1048576"),
    "pax-size-2-62": Hostile(tar(header(type=b"x", size=2**62)), "1048576"),
    "pax-size-negative": Hostile(tar(header(type=b"x", size=-1)), "1048576"),
    **{
        f"pax-empty-{key.decode()}": Hostile(_pax((key, b""), type=b"2"), key.decode())
        for key in (b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime")
    },
    "pax-xattr-nameless": Hostile(_pax((b"SCHILY.xattr.", b"v")), "without a name"),
    "pax-twice": Hostile(tar(pax([(b"path", b"a")]), pax([]), header()), "second PAX"),
    "pax-then-end": Hostile(tar(pax([(b"path", b"a")])), "ends after a PAX"),
    "pax-then-eof": Hostile(pax([(b"path", b"a")]), "ends after a PAX"),
    "pax-global-path": Hostile(tar(pax([(b"path", b"a")], type=b"g"), header()), "global"),
    "pax-global-size": Hostile(tar(pax([(b"size", b"0")], type=b"g"), header()), "global"),
    "pax-global-between": Hostile(
        tar(pax([(b"path", b"a")]), pax([(b"comment", b"c")], type=b"g"), header()), "global"
    ),
    # GNU long names
    "long-name-twice": Hostile(tar(long_name(b"a"), long_name(b"b"), header()), "second GNU"),
    "long-name-then-end": Hostile(tar(long_name(b"a")), "long-name header"),
    "long-name-empty": Hostile(tar(long_name(b""), header()), "empty"),
    "long-name-unterminated": Hostile(
        tar(header(type=b"L", size=3, magic=GNU), tars.pad(b"long"), header()), "end in a NUL"
    ),
    "long-name-and-pax": Hostile(tar(long_name(b"a"), pax([(b"path", b"b")]), header()), "both"),
    "long-link-and-pax": Hostile(
        tar(long_name(b"a", type=b"K"), pax([(b"linkpath", b"b")]), header(type=b"2")), "both"
    ),
    "long-link-stray": Hostile(tar(long_name(b"a", type=b"K"), header()), "no link"),
    "long-name-huge": Hostile(tar(header(type=b"L", size=2**40)), "1048576"),
    "v7-prefix": Hostile(tar(header(magic=V7, prefix=b"usr/share/x")), "v7"),
    "gnu-prefix": Hostile(tar(header(magic=GNU, prefix=b"usr/share/x")), "malformed number"),
    # the end
    "zero-block-then-data": Hostile(bytes(512) + header() + END, "single zero block"),
    "data-after-end": Hostile(tar(file(b"a")) + header(b"hidden"), "after its two zero blocks"),
    "byte-after-end": Hostile(tar(file(b"a")) + bytes(9000) + b"x", "after its two zero blocks"),
    "cut-header": Hostile(header()[:511], "cut off inside a header"),
    "cut-payload": Hostile(header(size=1000) + bytes(999), "cut off inside this entry"),
    "cut-padding": Hostile(header(size=1000) + bytes(1000), "cut off inside this entry"),
    "cut-pax": Hostile(pax([(b"path", b"a")])[:600], "cut off inside this entry"),
    "text": Hostile(b"this is no tar archive\n" * 100, "malformed number"),
}
