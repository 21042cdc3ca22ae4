"""Layers that attack by owners, modes, times, xattrs and devices."""

from __future__ import annotations

from typing import Final

from snapcore.archive import EntryType
from support import tars
from support.hostile.case import HostileLayer, accepted, known, raw, refused
from support.layers import entry, file, folder, symlink
from support.tars import header, pax

_CAPABILITY: Final = bytes.fromhex("0100000200200000000000000000000000000000")
_DIRECTORY: Final = EntryType.DIRECTORY

METADATA: Final[tuple[HostileLayer, ...]] = (
    # --- owners --------------------------------------------------------------------------------
    known("uid-negative", "an owner below 0"),
    known("uid-minus-one", "chown's `leave it`: the file stays root's (CVE-2024-40635)"),
    known("gid-2-32", "an owner that is 0 in 32 bits"),
    known("uid-pax-minus-one", "the same by a PAX record"),
    known("uid-pax-junk", "a number with a tail, which some read as 0"),
    known("uid-pax-sign", "a number with a sign"),
    known("gid-pax-negative", "a negative PAX number"),
    accepted("largest-ids", "the largest owners there are",
             [entry("y", ids=(2**32 - 2, 2**32 - 2))]),
    accepted("root-attributes-all", "owner, mode and time of the root itself",
             [entry("", _DIRECTORY, mode=0o711, ids=(5, 6), mtime=7)]),
    # --- modes ---------------------------------------------------------------------------------
    known("mode-negative", "a mode below 0"),
    accepted("setuid-kept", "setuid bits are the image's own affair, and must survive chown",
             [entry("y", mode=0o6755, ids=(1000, 1000))]),
    accepted("mode-type-bits", "file type bits in the mode of a regular file",
             raw(header(b"y", mode=0o140644)), [file("y")]),
    accepted("mode-nothing", "modes that keep even the owner out, of what is written into",
             [entry("n", _DIRECTORY, mode=0), file("n/x", b"x"), entry("n/m", _DIRECTORY, mode=0),
              file("n/m/y", b"y")]),
    # --- times ---------------------------------------------------------------------------------
    known("mtime-nan", "not a number"),
    known("mtime-inf", "for ever"),
    known("mtime-exponent", "1e400"),
    known("mtime-2-63", "past 64 bits"),
    known("mtime-base256", "past 64 bits in base 256"),
    accepted("mtime-negative", "before 1970, to the nanosecond",
             [entry("y", mtime=-1_500_000_001), entry("d", _DIRECTORY, mode=0o755, mtime=-1)]),
    accepted("mtime-fraction", "more digits than a nanosecond has",
             raw(pax([(b"mtime", b"1.1234567899999999999999")]), header(b"y")),
             [entry("y", mtime=1_123_456_789)]),
    accepted("time-records", "access and change times: nobody's business here",
             raw(pax([(b"atime", b"1e9"), (b"ctime", b"nan")]), header(b"y")), [file("y")]),
    # --- xattrs --------------------------------------------------------------------------------
    known("xattr-too-large", "more than the kernel takes"),
    known("xattr-without-a-name", "`user.` and nothing"),
    known("xattr-name-too-long", "a name that the kernel does not take"),
    known("pax-xattr-nameless", "a record that names none"),
    known("capability-too-short", "a file capability of four bytes"),
    known("capability-of-no-revision", "a file capability of no revision"),
    known("acl-that-is-none", "an ACL that is junk"),
    accepted("xattr-selinux", "host policy: a label of the image's choice",
             [entry("y", xattrs={b"security.selinux": b"unconfined_u:object_r:bin_t:s0\0"})],
             [file("y")]),
    accepted("xattr-ima", "host policy: integrity marks",
             [entry("y", xattrs={b"security.ima": b"\1" * 20, b"security.evm": b"\2" * 20})],
             [file("y")]),
    accepted("xattr-nfs4-acl", "host policy: ACLs of another filesystem",
             [entry("y", xattrs={b"system.nfs4_acl": bytes(40)})], [file("y")]),
    accepted("xattr-trusted", "what only root may set",
             [entry("y", xattrs={b"trusted.evil": b"1"}),
              entry("d", _DIRECTORY, mode=0o755, xattrs={b"trusted.evil": b"1"})],
             [file("y"), folder("d")]),
    accepted("xattr-other-spellings", "records of other writers, which nobody here reads",
             raw(pax([(b"LIBARCHIVE.xattr.user.a", b"MQ"), (b"RHT.security.selinux", b"x"),
                      (b"SCHILY.acl.access", b"user::rwx"), (b"SCHILY.fflags", b"immutable")]),
                 header(b"y")), [file("y")]),
    accepted("xattr-user-on-symlink", "what the kernel refuses on links",
             [entry("y", EntryType.SYMLINK, mode=0o777, link="d", xattrs={b"user.a": b"1"})],
             [symlink("y", "d")]),
    accepted("xattr-kept", "what is allowed arrives: user, NUL and newline in its value",
             [entry("y", xattrs={b"user.a": b"\0\n=", b"user.b": b""})]),
    accepted("capability-kept", "a file capability survives owner and data",
             [entry("y", EntryType.FILE, b"data", mode=0o755, ids=(1, 1),
                    xattrs={b"security.capability": _CAPABILITY})]),
    accepted("capability-on-a-directory", "a capability where none can be",
             [entry("n", _DIRECTORY, mode=0o755, xattrs={b"security.capability": _CAPABILITY})],
             [folder("n")]),
    accepted("xattr-replaced", "xattrs of a lower directory are replaced, not merged",
             [entry("d", _DIRECTORY, mode=0o755, xattrs={b"user.b": b"2"})]),
    # --- devices -------------------------------------------------------------------------------
    known("device-0-0", "the kernel's whiteout"),
    known("device-major", "a major number that the kernel cuts"),
    known("device-minor", "a minor number that the kernel cuts"),
    known("device-major-base256", "2^33+1, which others made 1"),
    known("device-negative", "a device below 0"),
    known("device-v7", "a device in a header that has no place for it"),
    known("device-over-directory", "a device in the place of a directory"),
    accepted("device-memory", "the machine's memory: a node like any other, as the image says",
             raw(tars.device(b"mem", 1, 1, mode=0o600)),
             [entry("mem", EntryType.CHARACTER, mode=0o600, device=(1, 1))]),
    accepted("device-opened-by-nobody", "a FIFO, and a link through which it is a parent's name",
             [entry("p", EntryType.FIFO, mode=0o600), symlink("q", "p"), file("r", b"r")]),
    refused("device-as-a-parent", "a file below a device",
            [entry("n", EntryType.CHARACTER, device=(1, 3)), file("n/x")]),
)  # fmt: skip
