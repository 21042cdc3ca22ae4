"""Directives that render what only the code knows: configuration keys and exit codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from snapcore.cli.exits import EXIT_CODES
from snapcore.config.keys import KEYS, Key


class _Table(SphinxDirective):
    """A table with one row for each thing of a kind."""

    titles: Sequence[str] = ()

    def rows(self) -> Iterable[Sequence[str]]:
        """Return the cells, in RST."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Parse the rows as a list-table."""
        lines = [".. list-table::", "   :header-rows: 1", ""]
        for row in (self.titles, *self.rows()):
            lines += [
                f"   {'-' if number else '* -'} {cell}" if not number else f"     - {cell}"
                for number, cell in enumerate(row)
            ]
        parent = nodes.Element()
        self.state.nested_parse(StringList(lines, source="reference"), self.content_offset, parent)
        return parent.children


class ConfigurationKeys(_Table):
    """Every key of the config file."""

    titles = ("key", "type", "default", "meaning")

    def rows(self) -> Iterable[Sequence[str]]:
        """Return one row for each key."""
        for name, key in KEYS.items():
            yield f"``{name}``", _type(key), f"``{key.default!r}``", _meaning(key)


class ExitCodes(_Table):
    """Which error ends the command line with which code; the first that fits decides."""

    titles = ("error", "code")

    def rows(self) -> Iterable[Sequence[str]]:
        """Return one row for each class of the table."""
        for error, code in EXIT_CODES:
            yield f"``{error.__name__}``", str(code)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("configuration-keys", ConfigurationKeys)
    app.add_directive("exit-codes", ExitCodes)
    return {"parallel_read_safe": True}


def _type(key: Key) -> str:
    return "list of strings" if key.kind is tuple else key.kind.__name__


def _meaning(key: Key) -> str:
    return key.help + (f" (one of {', '.join(key.choices)})" if key.choices else "")
