"""A picture as one page: tables with links between them, a filter, and the drawing.

Everything is in the page, and its content security policy lets nothing else run or load: names
come from images. It is used with a keyboard alone: all is headings, tables, links, one field and
one box; the drawing says nothing that the tables do not. It works without its script, which only
filters.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from snapcore.gc.picture import Node, Picture
from snapcore.gc.render_svg import STYLE as SVG_STYLE
from snapcore.gc.render_svg import drawing, short, state
from snapcore.gc.shown import shown, size_text

_STYLE: Final = (
    """
body { font: 16px/1.45 sans-serif; margin: 1rem 2rem; color: #1b1b1b; background: #fff; }
table { border-collapse: collapse; margin: .5rem 0 2rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .9rem .25rem 0;
  border-bottom: 1px solid #ccc; }
td.size { text-align: right; white-space: nowrap; }
td.id { font-family: monospace; overflow-wrap: anywhere; max-width: 36rem; }
tr:target { background: #fff3bf; }
tr.garbage td.state { color: #a32018; font-weight: bold; }
tr.root td.state { font-weight: bold; }
a { color: #0b4f9e; }
:focus-visible { outline: 3px solid #0b4f9e; outline-offset: 2px; }
.skip:not(:focus) { position: absolute; left: -999rem; }
.drawing { overflow: auto; max-height: 80vh; border: 1px solid #ccc; }
[hidden] { display: none; }
"""
    + SVG_STYLE
)
_SCRIPT: Final = """
const words = document.getElementById("words");
const only = document.getElementById("only");
const rows = [...document.querySelectorAll("tr[id]")];
function filter() {
  const wanted = words.value.toLowerCase();
  let count = 0;
  for (const row of rows) {
    const fits = row.textContent.toLowerCase().includes(wanted);
    row.hidden = !fits || (only.checked && !row.classList.contains("garbage"));
    if (!row.hidden) count += 1;
  }
  for (const part of document.querySelectorAll("section.things"))
    part.hidden = !part.querySelector("tr[id]:not([hidden])");
  document.getElementById("count").textContent = count + " of " + rows.length + " things";
}
function show() {
  const row = document.getElementById(location.hash.slice(1));
  if (row && row.closest("[hidden]")) { words.value = ""; only.checked = false; filter(); }
  if (row) row.scrollIntoView();
}
words.addEventListener("input", filter);
only.addEventListener("change", filter);
addEventListener("hashchange", show);
document.getElementById("tools").hidden = false;
filter();
"""
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
        *_head(),
        *_summary(drawn, groups),
        *_tools(),
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
        f"<script>{_SCRIPT}</script>",
        "</body></html>",
        "",
    ]
    return "\n".join(lines)


def _head() -> Iterator[str]:
    policy = (
        "default-src 'none';"
        f" style-src '{_hash(_STYLE)}'; script-src '{_hash(_SCRIPT)}'; base-uri 'none'"
    )
    yield "<!doctype html>"
    yield "<html lang='en'><head><meta charset='utf-8'>"
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield "<meta name='viewport' content='width=device-width, initial-scale=1'>"
    yield "<title>snapcore: what keeps what</title>"
    yield f"<style>{_STYLE}</style></head><body>"
    yield "<a class='skip' href='#things'>Skip to the things</a>"
    yield "<header><h1>What keeps what</h1></header>"


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


def _tools() -> Iterator[str]:
    yield "<form id='tools' role='search' hidden>"
    yield "<label for='words'>Show what contains</label> <input id='words' type='search'>"
    yield "<input id='only' type='checkbox'> <label for='only'>garbage only</label>"
    yield "<output id='count' for='words only' aria-live='polite'></output></form>"


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


def _hash(text: str) -> str:
    """Return the source expression that lets an inline element of this text through (CSP 3)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
