"""Platforms: parsing, this host's, and which of an index's manifests fits best.

Names are normalised as container clients do (`x86_64` → `amd64`, `aarch64` → `arm64/v8`).
A match is exact in OS and architecture; among ARM variants a lower one is acceptable to a
higher host, the nearest first.
"""

from __future__ import annotations

import platform as host
import re
from dataclasses import dataclass

from snapcore.errors import InvalidArgument

_PART = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_ARCH = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
}
# What an ARM host of this variant can run, the best first.
_ARM_RUNS = {
    "v8": ("v8", "v7", "v6", "v5"),
    "v7": ("v7", "v6", "v5"),
    "v6": ("v6", "v5"),
    "v5": ("v5",),
}
_DEFAULT_VARIANT = {"arm64": "v8", "arm": "v7", "amd64": "v1"}


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on: `os/architecture[/variant]`, normalised."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(p for p in (self.os, self.architecture, self.variant) if p)

    @classmethod
    def of(cls, os: str, architecture: str, variant: str = "") -> Platform:
        """Build a normalised platform: aliases resolved, default variants dropped."""
        arch = architecture.lower()
        arch, implied = _ARCH.get(arch, (arch, ""))
        variant = (variant.lower() or implied).removeprefix("v")
        variant = f"v{variant}" if variant else ""
        if arch == "arm64" or arch == "amd64":
            variant = "" if variant == _DEFAULT_VARIANT[arch] else variant
        elif arch == "arm" and not variant:
            variant = _DEFAULT_VARIANT["arm"]
        return cls(os.lower(), arch, variant)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse `os/arch[/variant]`, or an architecture alone (then the OS is linux).

        Raises:
            InvalidArgument: more than three parts, or a part with other characters.
        """
        parts = text.split("/")
        if not 1 <= len(parts) <= 3 or not all(_PART.match(p) for p in parts):
            raise InvalidArgument(
                f"not a platform: {text[:100]!r} (want os/arch or os/arch/variant)"
            )
        if len(parts) == 1:
            return cls.of("linux", parts[0])
        return cls.of(*parts)

    @classmethod
    def local(cls) -> Platform:
        """Return this host's platform."""
        return cls.of("linux", host.machine())

    @classmethod
    def or_local(cls, text: str) -> Platform:
        """Parse a platform; this host's for "".

        Raises:
            InvalidArgument: as `parse`.
        """
        return cls.parse(text) if text else cls.local()

    def rank(self, candidate: Platform) -> int | None:
        """Say how well `candidate` runs here: 0 is best, larger is worse, None not at all."""
        if (candidate.os, candidate.architecture) != (self.os, self.architecture):
            return None
        if candidate.variant == self.variant:
            return 0
        if self.architecture == "arm":
            runs = _ARM_RUNS.get(self.variant, (self.variant,))
            return runs.index(candidate.variant) if candidate.variant in runs else None
        # amd64/v3 and arm64/v9 hosts run the baseline; the reverse is not promised.
        return 1 if not candidate.variant else None
