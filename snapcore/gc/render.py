"""Pictures of what keeps what, as text: which forms there are, and the plain ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from snapcore.gc.graph import Graph
from snapcore.gc.picture import Node, Picture, picture
from snapcore.gc.render_html import html
from snapcore.gc.render_svg import svg
from snapcore.gc.shown import size_text
from snapcore.page import shown

JSON_VERSION: Final = 1
_SHORT: Final = 40


def render(graph: Graph, form: str, unopened: Mapping[str, str]) -> str:
    """Draw a graph.

    Args:
        graph: with the sizes of its snapshots.
        form: one of `FORMS`.
        unopened: snapshotters that could not be asked, and why.

    Raises:
        KeyError: no such form.
    """
    return FORMS[form](picture(graph, unopened))


def as_json(drawn: Picture) -> str:
    """Return a picture for programs; docs/cli.md says what the members mean."""
    document = {
        "version": JSON_VERSION,
        "things": [
            {
                "number": node.number,
                "kind": str(node.thing.kind),
                "role": str(node.role),
                "id": shown(node.thing.id),
                "snapshotter": shown(node.thing.scope),
                "size": node.size,
                "root": shown(node.root) or None,
                "garbage": node.garbage,
                "present": node.present,
            }
            for node in drawn.nodes
        ],
        "links": [
            {"from": link.source, "to": link.target, "label": shown(link.label)}
            for link in drawn.links
        ],
        "unopened": {shown(name): shown(reason) for name, reason in drawn.unopened.items()},
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def dot(drawn: Picture) -> str:
    """Return a picture in graphviz's language."""
    lines = ["digraph snapcore {", "  rankdir=LR;", "  node [shape=box];"]
    for number, (group, nodes) in enumerate(drawn.groups().items()):
        lines += [f"  subgraph cluster_{number} {{", f"    label={_quoted(group)};"]
        lines += [f"    {_dot_node(node)}" for node in nodes]
        lines.append("  }")
    lines += [
        f"  n{link.source} -> n{link.target} [tooltip={_quoted(link.label)}];"
        for link in drawn.links
    ]
    return "\n".join([*lines, "}", ""])


def _dot_node(node: Node) -> str:
    words = [node.thing.id[:_SHORT], size_text(node.size) if node.present else "not here"]
    style = ""
    if node.garbage:
        words.append("garbage")
        style = ", style=dashed"
    elif node.root:
        words.append(f"root: {node.root}")
        style = ", style=bold"
    elif not node.present:
        style = ", style=dotted"
    label, tip = _quoted(" | ".join(words)), _quoted(node.thing.id)
    return f"n{node.number} [label={label}, tooltip={tip}{style}];"


def _quoted(text: str) -> str:
    # A backslash would begin one of dot's own escapes, such as \N.
    escaped = shown(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


FORMS: Final[Mapping[str, Callable[[Picture], str]]] = {
    "html": html,
    "svg": svg,
    "dot": dot,
    "json": as_json,
}
"""What a graph can be drawn as, by the ending of a file's name."""
