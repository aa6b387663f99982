"""Change the paper's choice: what the panel holds, and in a browser, that its numbers are Python's."""

import json
import math
import re

import pytest

from aevb.book import choices
from aevb.reproduction import figures, readings, results, settings
from aevb.reproduction.curves import value_at
from tests.browser import frames, shown

CHAPTER = "19_what_the_paper_does_not_say"


@pytest.fixture(scope="module")
def widget():
    return choices.choices()


def panel(widget, dataset, algorithm, latent_dim):
    (found,) = (
        p for p in widget.panels if (p["dataset"], p["algorithm"], p["latent_dim"]) == (dataset, algorithm, latent_dim)
    )
    return found


def reading(widget, question, answer, *name):
    (found,) = (r for r in panel(widget, *name)["readings"] if (r["question"], r["answer"]) == (question, answer))
    return found


# what it holds


def test_every_recorded_reading_is_in_its_panel(widget):
    for item in (*readings.READINGS, *readings.BY_LATENTS, *readings.PLATEAU):
        if item.question != readings.BASELINE:
            reading(widget, item.question, item.answer, item.run.dataset, item.run.algorithm, item.run.latent_dim)


def test_every_question_has_words_and_an_answer_of_the_baseline(widget):
    asked = {r["question"] for p in widget.panels for r in p["readings"]}
    assert asked == set(choices.CHOICES) == {q["question"] for q in widget.questions}
    for choice in choices.CHOICES.values():
        assert bool(choice.says) == bool(choice.where)
        assert choice.baseline
    assert all(q["answers"] for q in widget.questions)


def test_what_figure_2_has_is_said_with_the_curves_that_differ(monkeypatch):
    """By settings of the test's own, with one step size for all."""
    panels = {name: panel._replace(warm_up=7, apart={}) for name, panel in settings.FIGURE2.items()}
    monkeypatch.setattr(settings, "FIGURE2", panels)
    assert choices._of_figure_2("warm_up", "{} steps".format) == "7 steps"
    panels["frey"] = panels["frey"]._replace(apart={"aevb": {"warm_up": 8}})
    assert choices._of_figure_2("warm_up", str) == "8 (AEVB, Frey Face); otherwise 7"


def test_curves_are_those_of_the_record(widget):
    """A reading of one seed, one of three, and the baseline where seeds part."""
    table = results.recorded("readings-by-latents").select(
        question="initial weights", answer="s.d. 0.1", dataset="mnist", latent_dim=5, algorithm="aevb", split="test"
    )
    ours = reading(widget, "initial weights", "s.d. 0.1", "mnist", "aevb", 5)
    assert ours["samples"] == table.mean().index.tolist() and "low" not in ours
    assert ours["mean"] == table.mean().round(2).tolist()
    book = results.recorded("figure2").select(dataset="mnist", algorithm="aevb", latent_dim=5, split="test")
    ours = reading(widget, "warm-up", "10 steps", "mnist", "aevb", 5)
    assert ours["seeds"] == 3 and len(ours["samples"]) == len(ours["low"])
    assert all(low <= mean <= high for low, mean, high in zip(ours["low"], ours["mean"], ours["high"], strict=True))
    at_end = book.select(book.shared().end).table.query(f"samples == {ours['samples'][-1]}")["bound"]
    assert ours["low"][-1] == round(at_end.min(), 2) and ours["high"][-1] == round(at_end.max(), 2)
    assert ours["tail"]["samples"][0] == ours["samples"][-1] < ours["tail"]["samples"][-1] == book.end


def test_of_two_records_of_a_reading_the_longer_is_shown(widget):
    assert reading(widget, "initial weights", "s.d. 0.1", "mnist", "aevb", 20)["samples"][-1] == 1_000_000
    assert reading(widget, "step size", "0.1", "mnist", "aevb", 20)["samples"][-1] < 400_000


def test_the_panel_is_light(widget):
    state = json.dumps([widget.panels, widget.questions])
    assert len(state) + len(widget._esm) + len(widget._css) < 700e3
    assert len(state) > 20e3


def test_a_link_names_the_choice_and_refuses_others():
    assert choices.link("weight prior") == f'<a href="{choices.PAGE}#choice--weight-prior">weight prior</a>'
    with pytest.raises(ValueError, match="no choice 'colour'"):
        choices.link("colour")


# in a browser


@pytest.fixture
def open_panel(visit):
    """Open the chapter at an address's end; what it shows first is drawn."""

    def open_at(fragment: str = "", **options):
        tab = visit(CHAPTER, **options)
        if fragment:
            tab.evaluate("fragment => { location.hash = fragment; }", fragment)
        tab.wait_for_function("document.querySelector('[data-name=end]').textContent")
        frames(tab)
        return tab

    return open_at


def expected(widget, question, answer, *name) -> dict[str, float | None]:
    """The differences of a reading from the paper at a million samples and from its baseline, by Python's curves."""
    dataset, algorithm, latent_dim = name
    where = {"dataset": dataset, "algorithm": algorithm, "latent_dim": latent_dim, "split": "test"}
    found = {}
    for curves, compared in choices.recorded(figures.trained_alike()):
        part = curves.select(question=question, answer=answer, **where)
        if len(part) and (not found or part.end >= found["end"]):
            found = {"end": part.end, "ours": part.shared().mean(), "base": compared.select(**where).shared().mean()}
    meet = min(choices.PLACE, found["ours"].index[-1], found["base"].index[-1])
    theirs = results.published("figure2").select(**where).mean()
    return {
        "paper": value_at(found["ours"], choices.PLACE) - value_at(theirs, choices.PLACE),
        "base": value_at(found["ours"], meet) - value_at(found["base"], meet),
        "meet": meet,
    }


CASES = [
    ("warm-up", "10 steps", "mnist", "wake-sleep", 3),
    ("step size", "0.01", "frey", "aevb", 20),
    ("size of a minibatch", "300, warm-up 100", "frey", "aevb", 10),
    ("weight prior", "on the decoder alone", "frey", "wake-sleep", 20),
    ("pixels", "cut at one half", "mnist", "aevb", 20),
    ("initial weights", "s.d. 0.1", "frey", "aevb", 10),
]


def address(question, answer, dataset, algorithm, latent_dim) -> str:
    parts = (choices.slug(question), dataset, algorithm, str(latent_dim), choices.slug(answer))
    return "--".join(("#choice", *parts))


def assert_pythons(tab, widget, case) -> None:
    """The two differences shown are Python's, to the decimal shown."""
    wanted = expected(widget, *case)
    if math.isnan(wanted["paper"]):
        assert tab.locator('[data-name="paper"]').inner_text() == "not run as far"
    else:
        assert abs(shown(tab, "paper")[0] - wanted["paper"]) <= 0.07, "paper"
    text = tab.locator('[data-name="base"]').inner_text().replace(",", "").replace("\N{MINUS SIGN}", "-")
    difference, meet = (float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text))
    assert abs(difference - wanted["base"]) <= 0.07 and meet == wanted["meet"], "base"


def test_an_address_opens_the_panel_at_a_choice_with_pythons_numbers(open_panel, widget):
    tab = open_panel()
    for case in CASES:
        tab.evaluate("fragment => { location.hash = fragment; }", address(*case))
        tab.wait_for_function(
            "value => document.querySelector('.aevb-choices input[name^=aevb-question]:checked').value === value",
            arg=case[0],
        )
        frames(tab)
        assert_pythons(tab, widget, case)
        question, answer, dataset, algorithm, latent_dim = case
        chosen = tab.locator(".aevb-choices input:checked").evaluate_all("nodes => nodes.map(node => node.value)")
        assert chosen == [dataset, algorithm, str(latent_dim), question, answer]
        assert (choices.CHOICES[question].says or "says nothing") in tab.locator(".aevb-verdict").inner_text()


def test_broken_arithmetic_of_the_panel_is_noticed(open_panel, widget):
    tab = open_panel(address(*CASES[1]), broken=("Math.log(place / samples[next - 1]) /", "Math.log(place) /"))
    with pytest.raises(AssertionError):
        assert_pythons(tab, widget, CASES[1])


def test_what_was_not_run_is_grey_and_says_so(open_panel):
    tab = open_panel("#choice--dreams--mnist--aevb--20")
    off = tab.locator(".aevb-choices label:has(input:disabled)")
    assert [text.strip() for text in off.all_inner_texts()] == ["the decoder's mean not run here"]
    assert "no other reading of it was run" in tab.locator(".aevb-verdict").inner_text()
    assert tab.locator('[data-name="base"]').inner_text() == "\N{EN DASH}"
    label = tab.get_by_label("dreams not run")
    muted, black = (
        node.evaluate("node => getComputedStyle(node.closest('label')).color")
        for node in (label, tab.get_by_label("pixels"))
    )
    assert muted != black


def test_a_choice_is_made_by_keys_and_the_focus_stays(open_panel, widget):
    tab = open_panel("#choice--warm-up--mnist--wake-sleep--20--0-steps")
    before = shown(tab, "base")
    tab.locator(".aevb-choices input[value='0 steps']").focus()
    tab.keyboard.press("ArrowRight")
    frames(tab)
    assert tab.evaluate("document.activeElement.value") == "10 steps"
    assert shown(tab, "base") != before
    assert_pythons(tab, widget, ("warm-up", "10 steps", "mnist", "wake-sleep", 20))


def test_a_link_on_the_page_opens_the_panel(open_panel):
    tab = open_panel()
    tab.get_by_role("link", name="log-variance of q").click()
    frames(tab)
    assert tab.locator(".aevb-choices input:checked").last.evaluate("n => n.value") == "from zero"
    assert tab.evaluate("location.hash").startswith("#choice--log-variance-of-q")
    tab.wait_for_function("Math.abs(document.querySelector('.aevb-choices').getBoundingClientRect().top) < 200")


def test_the_curve_moves_but_not_for_readers_who_want_less_motion(open_panel):
    tick = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.reduce((a, b) => (a * 31 + b) % 1e9, 7)"
    for motion, moves in (("no-preference", True), ("reduce", False)):
        tab = open_panel("#choice--initial-weights--mnist--aevb--10")
        tab.emulate_media(reduced_motion=motion)
        canvas = tab.locator(".aevb-choices canvas")
        canvas.scroll_into_view_if_needed()
        tab.wait_for_timeout(800)
        tab.evaluate("document.querySelector(\".aevb-choices input[value='log-variance of q']\").click()")
        frames(tab)
        early = canvas.evaluate(tick)
        tab.wait_for_timeout(1500)
        assert (early != canvas.evaluate(tick)) == moves


def test_the_panel_fits_a_phone(open_panel):
    tab = open_panel()
    tab.set_viewport_size({"width": 360, "height": 740})
    frames(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    assert tab.locator(".aevb-choices canvas").bounding_box()["width"] > 200
