"""Directives that render what only the code knows: configuration keys and exit codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from snapcore.cli.exits import EXIT_CODES
from snapcore.config.keys import KEYS, Key


class ConfigurationKeys(SphinxDirective):
    """Every key of the config file."""

    def run(self) -> list[nodes.Node]:
        """Return one row for each key."""
        rows = [
            (f"``{name}``", _type(key), f"``{key.default!r}``", _meaning(key))
            for name, key in KEYS.items()
        ]
        return _table(self, [("key", "type", "default", "meaning"), *rows])


class ExitCodes(SphinxDirective):
    """Which error ends the command line with which code; the first that fits decides."""

    def run(self) -> list[nodes.Node]:
        """Return one row for each class of the table."""
        rows = [(f"``{error.__name__}``", str(code)) for error, code in EXIT_CODES]
        return _table(self, [("error", "code"), *rows])


def _table(directive: SphinxDirective, rows: Iterable[Sequence[str]]) -> list[nodes.Node]:
    """Parse rows of RST, of which the first has the titles."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for first, *others in rows:
        lines += [f"   * - {first}", *(f"     - {cell}" for cell in others)]
    parent = nodes.Element()
    content = StringList(lines, source="reference")
    directive.state.nested_parse(content, directive.content_offset, parent)
    return parent.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("configuration-keys", ConfigurationKeys)
    app.add_directive("exit-codes", ExitCodes)
    return {"parallel_read_safe": True}


def _type(key: Key) -> str:
    return "list of strings" if key.kind is tuple else key.kind.__name__


def _meaning(key: Key) -> str:
    return key.help + (f" (one of {', '.join(key.choices)})" if key.choices else "")
