"""Plugins as installed distributions announce them: listed without importing, loaded by name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from snapcore.errors import FailedPrecondition, NotFound
from snapcore.snapshots.hookspecs import ENTRY_POINTS


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One installed plugin, which may never have been imported.

    Attributes:
        name: of the snapshotter or wrapper.
        module: what the entry point names.
        distribution: name of the distribution that installed it.
        version: of the distribution.
        blocked: the configuration forbids to load it.
        rivals: distributions that claim the same name, which makes it unusable.
    """

    name: str
    module: str
    distribution: str
    version: str
    blocked: bool = False
    rivals: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name!r} (distribution {self.distribution} {self.version})"


def list_plugins(
    group: str = ENTRY_POINTS, *, blocked: Collection[str] = ()
) -> tuple[PluginInfo, ...]:
    """Return the installed plugins of an entry point group, sorted, without importing any.

    Args:
        group: `snapcore.snapshotters` or `snapcore.wrappers`.
        blocked: names that the configuration forbids.
    """
    found = [
        (entry.name, entry.value, *_distribution(entry)) for entry in entry_points(group=group)
    ]
    return tuple(
        PluginInfo(
            name,
            module,
            distribution,
            version,
            blocked=name in blocked,
            rivals=tuple(
                sorted(
                    other
                    for same, rival, other, _ in found
                    if same == name and (rival, other) != (module, distribution)
                )
            ),
        )
        for name, module, distribution, version in sorted(found)
    )


def load_plugin(
    group: str, name: str, *, blocked: Collection[str] = ()
) -> tuple[PluginInfo, object]:
    """Import the one plugin of that name, and no other.

    Raises:
        NotFound: no installed distribution has it; the message lists what there is.
        FailedPrecondition: it is blocked, several distributions claim the name, or importing
            it fails.
    """
    plugins = list_plugins(group, blocked=blocked)
    named = [plugin for plugin in plugins if plugin.name == name]
    what = group.rpartition(".")[2].removesuffix("s")
    if not named:
        installed = ", ".join(sorted({plugin.name for plugin in plugins})) or "none"
        raise NotFound(f"no {what} {name!r} is installed; there are: {installed}")
    plugin = named[0]
    if plugin.blocked:
        raise FailedPrecondition(f"{what} {name!r} is blocked by the configuration")
    if plugin.rivals:
        claims = " and ".join(f"{each.distribution} {each.version}" for each in named)
        raise FailedPrecondition(
            f"{what} {name!r} is claimed by the distributions {claims}; uninstall all but one"
        )
    entry = next(entry for entry in entry_points(group=group) if entry.name == name)
    try:
        return plugin, entry.load()
    except Exception as error:
        raise FailedPrecondition(
            f"{what} {plugin} cannot be imported from {plugin.module!r}:"
            f" {type(error).__name__}: {error}"
        ) from error


def _distribution(entry: EntryPoint) -> tuple[str, str]:
    if entry.dist is None:
        return "unknown", "0"
    return entry.dist.name, entry.dist.version
