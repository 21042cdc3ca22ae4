"""What keeps what, drawn: every form holds everything, and no name can break out of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest
from support.chromium import browser

from snapcore.gc import Edge, Graph, Thing, ThingKind
from snapcore.gc.render import FORMS, render
from snapcore.labels import GC_REF_CONTENT, gc_ref_snapshot

HOSTILE: Final = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;\x00\x1b[31m\u202e\udcff\\N"
)
SVG: Final = "{http://www.w3.org/2000/svg}"


def content(name: str) -> Thing:
    return Thing(ThingKind.CONTENT, f"sha256:{name:0>64}")


def some(images: int, layers: int = 3, name: str = "localhost/app") -> Graph:
    """Return images with a manifest, a config, layers and snapshots each, and some garbage."""
    things: dict[Thing, int] = {}
    roots: dict[Thing, str] = {}
    edges: dict[Thing, tuple[Edge, ...]] = {}
    for number in range(images):
        image = Thing(ThingKind.IMAGE, f"{name}:{number}")
        manifest, config = content(f"a{number}"), content(f"b{number}")
        blobs = [content(f"c{number}e{layer}") for layer in range(layers)]
        chain = [
            Thing(ThingKind.SNAPSHOT, f"{number}-{layer}", "native") for layer in range(layers)
        ]
        things |= dict.fromkeys([image, manifest, config, *blobs, *chain], 1000)
        roots[image] = "image"
        edges[image] = (Edge(manifest, "target", True),)
        edges[manifest] = (
            Edge(config, f"{GC_REF_CONTENT}.config"),
            *(Edge(blob, f"{GC_REF_CONTENT}.l.{n}") for n, blob in enumerate(blobs)),
            Edge(content("f"), f"{GC_REF_CONTENT}.l.9"),
        )
        edges[config] = (Edge(chain[-1], gc_ref_snapshot("native")),)
        for child, parent in zip(chain[1:], chain, strict=False):
            edges[child] = (Edge(parent, "parent", True),)
    things[Thing(ThingKind.SNAPSHOT, "orphan", "native")] = 7
    return Graph(things, roots, frozenset(), edges)


class Page(HTMLParser):
    """Everything of a page that a test asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: Final[list[tuple[str, dict[str, str]]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def all(self, attribute: str) -> list[str]:
        return [given[attribute] for _, given in self.elements if attribute in given]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_everything(form: str) -> None:
    text = render(some(3), form, {"gone": "not installed"})
    for number in range(3):
        assert f"localhost/app:{number}" in text
    assert f"{'c2e1':0>64}" in text or form == "dot"
    assert "orphan" in text
    assert "garbage" in text


def test_json_says_what_things_are() -> None:
    document = json.loads(render(some(1, layers=2), "json", {"gone": "why"}))
    assert document["unopened"] == {"gone": "why"}
    things = document["things"]
    assert [thing["number"] for thing in things] == list(range(len(things)))
    roles = sorted(thing["role"] for thing in things if thing["present"])
    assert roles == sorted(
        ["image", "manifest", "config", "layer", "layer", "snapshot", "snapshot", "snapshot"]
    )
    assert [t["id"] for t in things if t["garbage"]] == ["orphan"]
    assert [t["root"] for t in things if t["root"]] == ["image"]
    (absent,) = (thing for thing in things if not thing["present"])
    assert (absent["role"], absent["garbage"], absent["size"]) == ("layer", False, 0)
    (target,) = (link for link in document["links"] if link["label"] == "target")
    assert things[target["from"]]["role"] == "image"
    assert things[target["to"]]["role"] == "manifest"


def test_a_hostile_name_is_only_text() -> None:
    graph = some(1, name=HOSTILE)
    unopened = {HOSTILE: HOSTILE}
    page = Page(render(graph, "html", unopened))
    tags = [tag for tag, _ in page.elements]
    assert (tags.count("script"), tags.count("img")) == (1, 0)
    assert [name for _, given in page.elements for name in given if name.startswith("on")] == []
    drawing = ET.fromstring(render(graph, "svg", unopened))
    assert {element.tag.removeprefix(SVG) for element in drawing.iter()} == {
        "svg", "style", "path", "text", "g", "title", "rect",
    }  # fmt: skip
    things = json.loads(render(graph, "json", unopened))["things"]
    assert any("onerror" in thing["id"] for thing in things)
    # Outside of quoted strings there is nothing of a name in a dot file.
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", render(graph, "dot", unopened))
    assert "alert" not in bare
    for form in FORMS:
        text = render(graph, form, unopened)
        assert not set("\x00\x1b\u202e\udcff") & set(text)


def test_the_page_needs_nothing_else_and_can_be_read_aloud() -> None:
    text = render(some(5), "html", {})
    page = Page(text)
    ids = page.all("id")
    assert len(ids) == len(set(ids))
    for attribute in ("href", "for", "aria-labelledby"):
        for value in page.all(attribute):
            for name in value.removeprefix("#").split():
                assert name in ids, (attribute, value)
    assert all(value.startswith("#") for value in page.all("href"))
    assert not [tag for tag, _ in page.elements if tag in ("link", "iframe", "object", "base")]
    assert page.all("src") == page.all("style") == []
    assert ("html", {"lang": "en"}) in page.elements
    (policy,) = (given for _, given in page.elements if "http-equiv" in given)
    assert policy["content"].startswith("default-src 'none';")
    for tag in ("style", "script"):
        (inline,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy["content"]


def test_a_thousand_things_are_a_small_page() -> None:
    graph = some(120)
    assert len(graph.things) > 1000
    text = render(graph, "html", {})
    assert len(text) < 2 << 20
    assert len([value for value in Page(text).all("id") if value.startswith("t")]) > 1000


def test_an_empty_node_is_drawn_too() -> None:
    for form in FORMS:
        assert render(Graph({}, {}), form, {})


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_page_is_used_with_a_keyboard_in_a_browser(tmp_path: Path) -> None:
    path = tmp_path / "graph.html"
    graph = some(120)
    path.write_text(render(graph, "html", {}), encoding="utf-8")
    hostile = tmp_path / "hostile.html"
    hostile.write_text(render(some(1, name=HOSTILE), "html", {HOSTILE: HOSTILE}), encoding="utf-8")
    with browser(tmp_path / "profile") as page:
        page.open(path)
        seen = []
        for _ in range(40):
            page.press("Tab", 9)
            seen.append(page.value("document.activeElement.id || document.activeElement.className"))
            if seen[-1] == "words":
                break
        assert seen[0] == "skip"
        assert seen[-1] == "words", seen
        for letter in "orphan":
            page.press(letter, ord(letter.upper()), letter)
        total = len(graph.things) + 1
        assert page.value("document.getElementById('count').textContent") == (
            f"1 of {total} things"
        )
        assert page.value("document.querySelectorAll('tr[id]:not([hidden])').length") == 1
        # A link to what the filter hides shows it.
        page.value("location.hash = '#t3'")
        assert page.value("new Promise(r => setTimeout(r, 0)) && true")
        page.value("dispatchEvent(new Event('hashchange'))")
        assert page.value("document.getElementById('t3').hidden") is False
        tree = page.call("Accessibility.getFullAXTree")["nodes"]
        unnamed = [
            node["role"]["value"]
            for node in tree
            if not node.get("ignored")
            and node.get("role", {}).get("value") in ("link", "searchbox", "checkbox", "heading")
            and not node.get("name", {}).get("value")
        ]
        assert unnamed == []
        page.call("Page.navigate", url=hostile.as_uri())
        assert page.value("document.querySelectorAll('script').length") == 1
        loud = [
            e for e in page.events if e["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")
        ]
        assert loud == []
        asked = {
            event["params"]["request"]["url"]
            for event in page.events
            if event["method"] == "Network.requestWillBeSent"
        }
        assert {url.partition("#")[0] for url in asked} <= {path.as_uri(), hostile.as_uri()}
