"""The Mount value: what a snapshotter answers and a runtime carries out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount, as containerd's `types.Mount` describes it.

    Attributes:
        type: `bind`, `overlay`, or another filesystem's name.
        source: what is mounted: a path, a device, or the filesystem's name.
        target: directory below the mount point, "" for the mount point itself.
        options: fstab-like words (`ro`, `rbind`, `lowerdir=…`).
    """

    type: str
    source: str
    target: str = ""
    options: tuple[str, ...] = ()

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written through this mount.

        An overlay without an upper directory is read-only even without `ro`.
        """
        if self.type == "erofs" or "ro" in self.options:
            return True
        return self.type == "overlay" and self.option("upperdir") is None

    def option(self, name: str) -> str | None:
        """Return the value of `name=value` among the options, None if it is not there."""
        prefix = f"{name}="
        for option in self.options:
            if option.startswith(prefix):
                return option[len(prefix) :]
        return None
