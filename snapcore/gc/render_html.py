"""A picture as one page: tables with links between them, a filter, and the drawing.

It is used with a keyboard alone: all is headings, tables, links, one field and one box; the
drawing says nothing that the tables do not. It works without its script, which only filters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from snapcore.gc.picture import Node, Picture
from snapcore.gc.render_svg import STYLE as SVG_STYLE
from snapcore.gc.render_svg import drawing, short, state
from snapcore.gc.shown import size_text
from snapcore.page import filter_form, filter_script, page, shown

_STYLE: Final = (
    """
td.size { text-align: right; white-space: nowrap; }
td.id { font-family: monospace; overflow-wrap: anywhere; max-width: 36rem; }
tr:target { background: #fff3bf; }
tr.garbage td.state { color: #a32018; font-weight: bold; }
tr.root td.state { font-weight: bold; }
.drawing { overflow: auto; max-height: 80vh; border: 1px solid #ccc; }
"""
    + SVG_STYLE
)
_SCRIPT: Final = filter_script(
    'row.classList.contains("garbage")',
    "things",
    """
document.addEventListener("filtered", () => {
  for (const part of document.querySelectorAll("section.things"))
    part.hidden = !part.querySelector("tr[id]:not([hidden])");
});
function show() {
  const row = document.getElementById(location.hash.slice(1));
  if (row && row.closest("[hidden]")) { words.value = ""; only.checked = false; filter(); }
  if (row) row.scrollIntoView();
}
addEventListener("hashchange", show);
""",
)
_HEADINGS: Final = "".join(
    f"<th scope='col'>{title}</th>" for title in ("name", "size", "state", "keeps", "kept by")
)
_FEW: Final = 3


def html(drawn: Picture) -> str:
    """Return a picture as a page that needs nothing else."""
    groups = drawn.groups()
    keeps: dict[int, list[tuple[int, str]]] = {}
    kept_by: dict[int, list[tuple[int, str]]] = {}
    for link in drawn.links:
        keeps.setdefault(link.source, []).append((link.target, link.label))
        kept_by.setdefault(link.target, []).append((link.source, link.label))
    lines = [
        "<header><h1>What keeps what</h1></header>",
        *_summary(drawn, groups),
        *filter_form("garbage only"),
        "<main id='things' tabindex='-1'>",
    ]
    for number, (group, nodes) in enumerate(groups.items()):
        lines += [
            f"<section class='things' aria-labelledby='g{number}'>",
            f"<h2 id='g{number}'>{escape(shown(group))}</h2>",
            f"<table><thead><tr>{_HEADINGS}</tr></thead><tbody>",
        ]
        for node in nodes:
            down = _links(drawn.nodes, keeps.get(node.number, ()))
            up = _links(drawn.nodes, kept_by.get(node.number, ()))
            lines.append(_row(node, down, up))
        lines += ["</tbody></table>", "</section>"]
    lines += [
        "</main>",
        "<section aria-labelledby='drawn'><h2 id='drawn'>Drawing</h2>",
        "<div class='drawing' tabindex='0' role='region' aria-labelledby='drawn'>",
        drawing(drawn),
        "</div></section>",
    ]
    return page("snapcore: what keeps what", "Skip to the things", _STYLE, _SCRIPT, lines)


def _summary(drawn: Picture, groups: dict[str, tuple[Node, ...]]) -> Iterator[str]:
    yield "<nav aria-label='Kinds of things'><table>"
    yield "<caption>How much there is</caption><thead><tr><th scope='col'>kind</th>"
    yield "<th scope='col'>kept</th><th scope='col'>garbage</th></tr></thead><tbody>"
    for number, (group, nodes) in enumerate(groups.items()):
        kept = [node for node in nodes if node.present and not node.garbage]
        garbage = [node for node in nodes if node.garbage]
        yield (
            f"<tr><th scope='row'><a href='#g{number}'>{escape(shown(group))}</a></th>"
            f"<td>{_amount(kept)}</td><td>{_amount(garbage)}</td></tr>"
        )
    yield "</tbody></table></nav>"
    for name, reason in drawn.unopened.items():
        yield f"<p>Not shown: snapshots of {escape(shown(name))} ({escape(shown(reason))})</p>"


def _row(node: Node, keeps: str, kept_by: str) -> str:
    word = state(node)
    told = {"root": f"root: {node.root}", "absent": "not here"}.get(word, word)
    size = size_text(node.size) if node.present else ""
    return (
        f"<tr id='t{node.number}' class='{word}'><td class='id'>{escape(shown(node.thing.id))}</td>"
        f"<td class='size'>{size}</td><td class='state'>{escape(shown(told))}</td>"
        f"<td>{keeps}</td><td>{kept_by}</td></tr>"
    )


def _links(nodes: Sequence[Node], ends: Sequence[tuple[int, str]]) -> str:
    links = [
        f"<a href='#t{number}' title='{escape(shown(label))}'>"
        f"{escape(nodes[number].role)} {escape(short(nodes[number]))}</a>"
        for number, label in ends
    ]
    text = "<br>".join(links)
    if len(links) <= _FEW:
        return text
    return f"<details><summary>{len(links)} things</summary>{text}</details>"


def _amount(nodes: Sequence[Node]) -> str:
    return f"{len(nodes)} ({size_text(sum(node.size for node in nodes))})"
