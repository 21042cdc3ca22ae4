"""Names of a package that are loaded on first use, so that importing it stays cheap (PEP 562).

In the package's `__init__.py`, beside the same imports under `TYPE_CHECKING`:

    __getattr__ = on_first_use(__name__, {"Node": "node"})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module


def on_first_use(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package.

    Args:
        package: its full name.
        homes: the module below it that has each name; beside it, if it begins with a dot.
    """

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{homes[name]}", package), name)

    return find
