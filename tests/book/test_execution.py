import json
import os
import re

import nbformat
import pytest

from aevb.book import execution, extension, notebooks
from aevb.book.execution import ChapterOutcome, execute, execute_all
from aevb.reproduction import provenance, results
from tests.written import PARAMETERS, printed, write


@pytest.mark.parametrize(
    ("cells", "profile", "printed_profile", "injected"),
    [
        ([PARAMETERS, "print(profile, size)"], "smoke", "smoke 2\n", True),
        ([PARAMETERS, "print(profile, size)"], "quick", "quick 2\n", False),
        (["profile = 'mine'", "print(profile)"], "smoke", "mine\n", False),
    ],
)
def test_the_profile_is_injected_where_it_is_asked_for(tmp_path, cells, profile, printed_profile, injected):
    text, notebook = write(tmp_path / "03_a.md", *cells), tmp_path / "out" / "03_a.ipynb"
    outcome = execute(text, notebook, profile)
    assert (outcome.chapter, outcome.error) == ("03_a", "")
    assert outcome.seconds > 0
    assert printed(notebook) == printed_profile
    tags = [tag for cell in nbformat.read(notebook, as_version=4).cells for tag in cell.metadata.get("tags", [])]
    assert ("injected-parameters" in tags) == injected


SEEDED = ("profile = 'quick'\nseed = 0", "parameters")


def test_a_seed_is_injected_where_a_chapter_has_one(tmp_path):
    text = write(tmp_path / "03_a.md", SEEDED, "print(profile, seed)")
    for seed, expected in ((7, "quick 7\n"), (0, "quick 0\n"), (None, "quick 0\n")):
        assert execute(text, tmp_path / "out.ipynb", "quick", seed).error == ""
        assert printed(tmp_path / "out.ipynb") == expected
    text = write(tmp_path / "04_b.md", PARAMETERS, "print('seed' in globals())")
    assert execute(text, tmp_path / "out.ipynb", "quick", 7).error == ""
    assert printed(tmp_path / "out.ipynb") == "False\n"


def test_a_parameter_has_one_name(tmp_path):
    """papermill can give no other value to part of something."""
    text = write(tmp_path / "03_a.md", ("profile = 'quick'\nfirst, last = 1, 2", "parameters"), "print(profile, last)")
    outcome = execute(text, tmp_path / "out.ipynb", "smoke")
    assert outcome.error == ""
    assert printed(tmp_path / "out.ipynb") == "smoke 2\n"


def test_other_seeds_are_tried_where_there_is_one_and_leave_no_measurement(tmp_path, monkeypatch):
    source = tmp_path / "book"
    write(source / "03_none.md", "1 / 0")
    seeded = write(source / "04_seeded.md", SEEDED, "assert seed != 2")
    monkeypatch.setattr(notebooks, "chapters", lambda: [source / "03_none.md", seeded])
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "BOOK", source)
    monkeypatch.setattr(results, "ROOT", tmp_path / "results")
    results.save_measurement("quick", "a", 1.0)
    found = execution.try_seeds([1, 2])
    assert {(seed, o.chapter, o.error) for seed, each in found.items() for o in each} == {
        (1, "04_seeded", ""), (2, "04_seeded", "AssertionError: "),
    }  # fmt: skip
    assert results.measurements("quick") == {}


def test_what_an_execution_took_is_kept_beside_it(tmp_path):
    text = write(tmp_path / "03_a.md", PARAMETERS, "import time\ntime.sleep(1.5)")
    write(tmp_path / "04_b.md", "print(1)")
    assert "no record" in extension.executions(tmp_path)
    outcome = execute(text, text.with_suffix(".ipynb"), "smoke")
    raw = nbformat.read(text.with_suffix(".ipynb"), as_version=4).metadata.papermill
    about = json.loads(extension.execution(text).read_text(encoding="utf-8"))
    assert (about["start"], about["seconds"]) == (raw.start_time, round(raw.duration, 1))
    assert 1.5 <= about["seconds"] <= outcome.seconds + 0.1
    assert (about["profile"], about["error"]) == ("smoke", "")
    assert {name: about[name] for name in ("python", "torch", "numpy", "machine")}.items() <= provenance.here().items()
    first, second, _, _, _, place = extension.executions(tmp_path).splitlines()[2:]
    for part in (raw.start_time[:10], "smoke", "current", "| 1 "):
        assert part in first
    for part in (about["machine"], about["torch"], about["papermill"], "|    1 |"):
        assert part in place
    assert "no record" in second
    text.write_text(text.read_text(encoding="utf-8") + "\nMore.\n", encoding="utf-8")
    assert "text changed since" in extension.executions(tmp_path)


def test_an_execution_that_failed_is_kept_as_such(tmp_path):
    text = write(tmp_path / "03_a.md", "raise ValueError('a | b')")
    execute(text, text.with_suffix(".ipynb"), "quick")
    assert "| failed: ValueError: a / b" in extension.executions(tmp_path)
    assert json.loads(extension.execution(text).read_text(encoding="utf-8"))["profile"] == ""  # it has none


def test_one_failing_chapter_is_reported_and_kept_and_the_others_run(tmp_path, capsys):
    texts = [
        write(tmp_path / "03_good.md", "print('good', file=open('trace', 'a'))"),
        write(tmp_path / "04_bad.md", "print('so far')", "raise ValueError('too\\nbad')", "print('never')"),
        write(tmp_path / "05_also_good.md", "print(open('trace').read())"),
    ]
    out = tmp_path / "out"
    outcomes = execute_all(texts, out, "quick")
    assert [(o.chapter, o.error, o.cell) for o in outcomes] == [
        ("03_good", "", None),
        ("04_bad", "ValueError: too", 2),
        ("05_also_good", "", None),
    ]
    assert printed(out / "05_also_good.ipynb") == "good\n\n"  # both in the folder of the texts
    assert printed(out / "04_bad.ipynb") == "so far\n"
    kept = nbformat.read(out / "04_bad.ipynb", as_version=4)
    errors = [output for cell in kept.cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert {(error.ename, error.evalue) for error in errors} == {("ValueError", "too\nbad")}
    assert re.search(r"05_also_good.*3/3", capsys.readouterr().err)


MEET = """
import pathlib, time
pathlib.Path("{me}").touch()
until = time.monotonic() + 60
while not pathlib.Path("{other}").exists():
    assert time.monotonic() < until, "alone"
    time.sleep(0.1)
"""


def test_chapters_run_side_by_side_in_their_folder_and_are_told_in_order(tmp_path):
    """Each waits for a file of the other's; one at a time, the first would wait in vain."""
    before = os.getcwd()
    pair = (("03_a", "a", "b"), ("04_b", "b", "a"))
    texts = [write(tmp_path / f"{name}.md", MEET.format(me=me, other=other)) for name, me, other in pair]
    outcomes = execute_all(texts, tmp_path / "out", "quick", jobs=2)
    assert [(o.chapter, o.error) for o in outcomes] == [("03_a", ""), ("04_b", "")]
    assert os.getcwd() == before


def test_the_chapters_that_last_took_longest_come_first_after_those_without_a_note(tmp_path):
    seconds = {"03_a": 1.0, "04_b": None, "05_c": 20.0, "06_d": 1.0}
    paths = [tmp_path / f"{name}.md" for name in seconds]
    (tmp_path / "executions").mkdir()
    for path in paths:
        if seconds[path.stem]:
            extension.execution(path).write_text(json.dumps({"seconds": seconds[path.stem]}), encoding="utf-8")
    assert [path.stem for path in execution.longest_first(paths)] == ["04_b", "05_c", "03_a", "06_d"]
    committed = [path.stem for path in execution.longest_first(notebooks.chapters())]
    assert sorted(committed) == [path.stem for path in notebooks.chapters()]


def test_a_kernel_that_dies_is_a_failure_too(tmp_path):
    text = write(tmp_path / "03_a.md", "print('so far')", "import os\nos._exit(9)")
    outcome = execute(text, tmp_path / "out.ipynb", "quick")
    assert outcome == ChapterOutcome("03_a", outcome.seconds, outcome.error, cell=2)
    assert "Dead" in outcome.error
    assert "\n" not in outcome.error
    assert (tmp_path / "out.ipynb").exists()
