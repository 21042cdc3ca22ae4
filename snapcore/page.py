"""Pages that need nothing else: one file, which loads nothing and runs only what is in it.

Names in them come from images and plugins, so the content security policy lets through the
page's own style and script, by their hash, and nothing else. All pages are used with a keyboard
alone, and can be read without their script.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from html import escape
from typing import Final

_STYLE: Final = """
body { font: 16px/1.45 sans-serif; margin: 1rem 2rem; color: #1b1b1b; background: #fff; }
table { border-collapse: collapse; margin: .5rem 0 2rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .9rem .25rem 0;
  border-bottom: 1px solid #ccc; }
a { color: #0b4f9e; }
:focus-visible { outline: 3px solid #0b4f9e; outline-offset: 2px; }
.skip:not(:focus) { position: absolute; left: -999rem; }
[hidden] { display: none; }
"""

_FILTER: Final = """
const words = document.getElementById("words");
const only = document.getElementById("only");
const rows = [...document.querySelectorAll("tr[id]")];
function filter() {
  const wanted = words.value.toLowerCase();
  let count = 0;
  for (const row of rows) {
    const fits = row.textContent.toLowerCase().includes(wanted);
    row.hidden = !fits || (only.checked && !(%(only)s));
    if (!row.hidden) count += 1;
  }
  document.getElementById("count").textContent = count + " of " + rows.length + " %(things)s";
  document.dispatchEvent(new Event("filtered"));
}
%(more)s
words.addEventListener("input", filter);
only.addEventListener("change", filter);
document.getElementById("tools").hidden = false;
filter();
"""


def filter_form(only: str) -> Iterator[str]:
    """Yield the markup of a filter of a page's rows.

    Args:
        only: what its box says, plain text.
    """
    yield "<form id='tools' role='search' hidden>"
    yield "<label for='words'>Show what contains</label> <input id='words' type='search'>"
    yield f"<input id='only' type='checkbox'> <label for='only'>{escape(only)}</label>"
    yield "<output id='count' for='words only' aria-live='polite'></output></form>"


def filter_script(only: str, things: str, more: str = "") -> str:
    """Return the script that a filter's form is for.

    Args:
        only: JavaScript that tells whether a `row` stays while the box is ticked.
        things: what rows are, in the plural.
        more: JavaScript that runs before the first filtering; each tells event `filtered`.
    """
    return _FILTER % {"only": only, "things": things, "more": more}


def page(title: str, skip: str, style: str, script: str, body: Iterable[str]) -> str:
    """Return a page.

    Args:
        title: plain text.
        skip: what the link that skips the head says; it leads to the element with id `things`.
        style: added to the style that all pages have.
        script: runs at the end of the page.
        body: markup, line by line.
    """
    style = _STYLE + style
    policy = (
        "default-src 'none';"
        f" style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'"
    )
    lines = (
        "<!doctype html>",
        "<html lang='en'><head><meta charset='utf-8'>",
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(title)}</title>",
        f"<style>{style}</style></head><body>",
        f"<a class='skip' href='#things'>{escape(skip)}</a>",
        *body,
        f"<script>{script}</script>",
        "</body></html>",
        "",
    )
    return "\n".join(lines)


def shown(text: str) -> str:
    """Return a text with backslash escapes for all that does not print.

    That is what XML forbids, what turns the direction of writing, and bytes that are not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def _hash(text: str) -> str:
    """Return the source expression that lets an inline element of this text through (CSP 3)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
