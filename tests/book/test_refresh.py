import pytest

from aevb.book import notebooks, refresh
from aevb.book.notebooks import differences
from aevb.reproduction import results
from tests.written import printed, write


def test_unknown_chapters_are_refused_with_the_choices():
    with pytest.raises(ValueError, match="no chapter called 99_nothing: choose among 00_what_this_is, ") as caught:
        refresh.update_notebooks([notebooks.chapters()[0].stem, "99_nothing"])
    assert "\n" not in str(caught.value)


MEASURE = """
import json, pathlib
path = pathlib.Path('../results/LIVE/quick/measurements/a.json')
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text('0.25')
""".replace("LIVE", results.live_folder().name)


def test_only_chapters_that_succeed_are_updated_and_the_summaries_know_the_others(tmp_path, monkeypatch):
    folder = tmp_path / "book"
    texts = [
        write(folder / "00_front.md", "print(open('../results/recorded/measurements.json').read())"),
        write(folder / "03_good.md", MEASURE),
        write(folder / "04_bad.md", "1 / 0"),
        write(folder / "05_other.md", "print(2)"),
        write(folder / "18_verdict.md", "print(open('../results/recorded/measurements.json').read())"),
        write(folder / "19_measures.md", MEASURE.replace("/a.json", "/b.json")),
    ]
    for text in texts:
        text.with_suffix(".ipynb").write_text("old", encoding="utf-8")
    monkeypatch.setattr(results, "ROOT", tmp_path / "results")
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "BOOK", folder)
    monkeypatch.setattr(notebooks, "chapters", lambda: texts)
    results.save_measurement("quick", "left", 0.5)  # by an earlier execution, whose notebook is not committed
    outcomes = refresh.update_notebooks(["00_front", "03_good", "04_bad", "18_verdict", "19_measures"])
    assert {outcome.chapter: outcome.error for outcome in outcomes} == {
        "00_front": "", "03_good": "", "04_bad": "ZeroDivisionError: division by zero",
        "18_verdict": "", "19_measures": "",
    }  # fmt: skip
    for summary in ("00_front", "18_verdict"):
        assert '"a": 0.25' in printed(folder / f"{summary}.ipynb")
        assert '"b": 0.25' in printed(folder / f"{summary}.ipynb")
    assert results.recorded_measurements() == {"a": 0.25, "b": 0.25}
    for text in texts[:2]:
        assert differences(text, text.with_suffix(".ipynb")) == []
        assert text.with_suffix(".ipynb").read_text(encoding="utf-8").endswith("}\n")
    assert [text.with_suffix(".ipynb").read_text(encoding="utf-8") for text in texts[2:4]] == ["old", "old"]
