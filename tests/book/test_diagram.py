"""The map of the VAE."""

import importlib
import re
from xml.etree import ElementTree

import pytest

from aevb.book import diagram, notebooks

LABEL = re.compile(r"^\(([\w-]+)\)=$", re.MULTILINE)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("part", diagram.PARTS.values(), ids=diagram.PARTS)
def test_every_link_leads_somewhere(part):
    page, _, anchor = part.page.partition("#")
    text = notebooks.BOOK / page.replace(".html", ".md")
    assert text.exists()
    assert not anchor or anchor in LABEL.findall(text.read_text(encoding="utf-8"))
    if part.function:
        module, *names = re.fullmatch(r"(aevb(?:\.[a-z_]+)+?)\.((?:[A-Z]\w+\.)?\w+)", part.function).groups()
        found = importlib.import_module(module)
        for name in names[0].split("."):
            found = getattr(found, name)


def test_boxes_lie_apart_and_within_the_drawing():
    boxes = [part.box for part in diagram.PARTS.values()]
    assert all(x >= 0 and x + width <= 360 and y >= 0 and y + height <= 344 for x, y, width, height in boxes)
    for i, (x, y, width, height) in enumerate(boxes):
        for u, v, other_width, other_height in boxes[:i]:
            assert x + width < u or u + other_width < x or y + height < v or v + other_height < y


def test_the_part_in_question_is_lit_and_said():
    drawing = ElementTree.fromstring(diagram.svg(("decoder",)))
    lit = [group for group in drawing.iter(f"{SVG}g") if "lit" in group.get("class", "").split()]
    assert [next(group.iter(f"{SVG}text")).text for group in lit] == ["decoder"]
    assert "Marked here: the decoder" in drawing.find(f"{SVG}desc").text
    assert "Marked" not in ElementTree.fromstring(diagram.svg()).find(f"{SVG}desc").text


def test_every_link_has_a_name_for_a_screen_reader():
    links = list(ElementTree.fromstring(diagram.svg()).iter(f"{SVG}a"))
    assert len(links) == len(diagram.PARTS) + sum(bool(part.function) for part in diagram.PARTS.values())
    assert all("".join(link.itertext()).strip() for link in links)


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="no part eye in the map: choose among datapoint"):
        diagram.show("eye")
