"""A picture as SVG: a column for each group, and lines from who keeps to who is kept."""

from __future__ import annotations

from html import escape
from typing import Final

from snapcore.gc.picture import Node, Picture
from snapcore.gc.shown import size_text
from snapcore.page import shown

STYLE: Final = """
svg { font: 12px sans-serif; fill: #1b1b1b; }
svg rect { fill: #eef3f8; stroke: #44607c; }
svg .root rect { stroke-width: 2.5; }
svg .garbage rect { fill: #fdecea; stroke: #a32018; stroke-dasharray: 5 3; }
svg .absent rect { fill: #ffffff; stroke-dasharray: 1 3; }
svg path { fill: none; stroke: #7d8b99; stroke-opacity: .6; }
svg .title { font-weight: bold; }
"""
"""For an SVG in a file of its own, and for one in a page."""

_WIDTH, _HEIGHT = 250, 22
_COLUMN, _ROW = 330, 28
_TOP, _LEFT = 40, 10
_SHORT: Final = 24


def svg(drawn: Picture) -> str:
    """Return a picture as an SVG document."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{drawing(drawn, STYLE)}'


def drawing(drawn: Picture, style: str = "") -> str:
    """Return a picture as an `svg` element.

    Args:
        drawn: what to draw.
        style: rules that are put inside; "" if the page has them.
    """
    groups = drawn.groups()
    places = {
        node.number: (_LEFT + column * _COLUMN, _TOP + row * _ROW)
        for column, nodes in enumerate(groups.values())
        for row, node in enumerate(nodes)
    }
    width = max(1, len(groups)) * _COLUMN
    height = _TOP + max((len(nodes) for nodes in groups.values()), default=1) * _ROW
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
            f' viewBox="0 0 {width} {height}" role="img"'
            ' aria-label="What keeps what: images, manifests, layers, snapshots">'
        ),
        *([f"<style>{style}</style>"] if style else []),
        *(_path(places[link.source], places[link.target]) for link in drawn.links),
    ]
    for column, group in enumerate(groups):
        lines.append(
            f'<text class="title" x="{_LEFT + column * _COLUMN}" y="22">'
            f"{escape(shown(group))}</text>"
        )
    lines += [_box(node, *places[node.number]) for node in drawn.nodes]
    return "\n".join([*lines, "</svg>", ""])


def state(node: Node) -> str:
    """Return the word for how it stands with a node, which is also its class in pictures."""
    if not node.present:
        return "absent"
    if node.garbage:
        return "garbage"
    return "root" if node.root else "kept"


def short(node: Node) -> str:
    """Return the beginning of a node's name, as much of it as tells things apart."""
    text = shown(node.thing.id)
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"


def _path(begin: tuple[int, int], end: tuple[int, int]) -> str:
    (x, y), (to_x, to_y) = begin, end
    x, y, to_y = x + _WIDTH, y + _HEIGHT // 2, to_y + _HEIGHT // 2
    # Inside one column, and back, a line goes round by the right side.
    if to_x < x:
        to_x += _WIDTH
        bend = max(x, to_x) + 40
        return f'<path d="M{x} {y}C{bend} {y} {bend} {to_y} {to_x} {to_y}"/>'
    middle = (x + to_x) // 2
    return f'<path d="M{x} {y}C{middle} {y} {middle} {to_y} {to_x} {to_y}"/>'


def _box(node: Node, x: int, y: int) -> str:
    word = state(node)
    tail = "not here" if word == "absent" else size_text(node.size)
    mark = f" · {word}" if word in ("root", "garbage") else ""
    tip = f"{node.group} {node.thing.id}: {tail}{mark} {node.root}".rstrip()
    return (
        f'<g class="{word}"><title>{escape(shown(tip))}</title>'
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="3"/>'
        f'<text x="{x + 6}" y="{y + 15}">{escape(short(node))} · {tail}{mark}</text></g>'
    )
