import contextlib
import html
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
import yaml

from aevb import data, datasets
from aevb.__main__ import main
from aevb.book import notebooks, pages
from aevb.datasets import MNIST_FILES
from aevb.reproduction import claims, results
from aevb.reproduction.curves import Curves

HEADER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

"""


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """`main` sets AEVB_DATA for the processes that it starts, but not for other tests."""
    monkeypatch.setenv("AEVB_DATA", os.environ.get("AEVB_DATA", ""))


# mistakes in the request


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["reproduce", "--profile", "fast"], "unknown profile 'fast': choose one of smoke, quick, standard, paper"),
        (["notebooks", "99_nothing"], "no chapter called 99_nothing: choose among 00_what_this_is, "),
        (["record", "figure9"], "unknown experiment 'figure9': choose one of figure2"),
        (["record", "figure2", "--profile", "fast"], "unknown profile 'fast': choose one of smoke, quick"),
        (["record", "figure2", "--dataset", "cifar"], "unknown dataset 'cifar': choose among"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(words, message, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(results, "ROOT", tmp_path / "results")
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"aevb: {message}")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (tmp_path / "results").exists()


def test_a_command_is_necessary(capsys):
    for words in ([], ["reprodcue"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2
    assert "reproduce" in capsys.readouterr().err


def missing(name):
    raise data.DataError(f"{name} could not be fetched: go online")


def test_without_mnist_nothing_is_begun(capsys, monkeypatch):
    monkeypatch.setattr(datasets, "load", missing)
    monkeypatch.setattr(pages, "stage", lambda profile: pytest.fail("chapters were executed"))
    assert main(["reproduce"]) == 2
    assert capsys.readouterr().err == "aevb: mnist could not be fetched: go online\n"


def test_without_frey_face_the_data_will_do(capsys, monkeypatch):
    load = datasets.load
    monkeypatch.setattr(datasets, "load", lambda name: missing(name) if name == "frey" else load(name))
    assert main(["data"]) == 0
    mnist, frey = capsys.readouterr().out.splitlines()
    assert mnist == "mnist: 50000 + 10000 + 10000 images, verified"
    assert frey == "frey: missing. frey could not be fetched: go online"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_full_disk_is_one_line(capsys, monkeypatch):
    full = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115
    monkeypatch.setattr(sys, "stdout", full)
    assert main(["compare"]) == 2
    with contextlib.suppress(OSError):
        full.close()
    assert capsys.readouterr().err == "aevb: [Errno 28] No space left on device\n"


# the record against the paper


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A record of two published curves, shifted, the second as far as 2e7 samples."""
    published = results.published("figure2")
    shutil.copytree(results.ROOT / "published", tmp_path / "published")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    chosen = published.select(algorithm="aevb", split="test")
    first, second = chosen.select(dataset="mnist", latent_dim=3), chosen.select(dataset="frey", latent_dim=2)
    for key, curve, end, shift in (("a", first, 1e9, 2.5), ("b", second, 2e7, -33.25)):
        table = curve.select(end).table
        table = table.assign(run=key, seed=0, bound=table["bound"] + shift)
        entry = {"samples": 1, "samples_per_second": 1, "config": {"dataset": "mnist", "algorithm": "aevb"}}
        results.write_record("figure2", Curves(table, curve.kind), {key: entry})


def test_compare_prints_ours_minus_published(record, capsys):
    assert main(["compare"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "aevb" in line]
    places = [("mnist", "3", samples) for samples in ("1000000", "10000000", "30000000", "100000000")]
    places += [("frey", "2", "1000000"), ("frey", "2", "10000000")]
    assert sorted(row[:-5] for row in rows) == sorted(
        [name, dim, "aevb", "test", samples] for name, dim, samples in places
    )
    for row in rows:
        published, ours, difference = map(float, row[-5:-2])
        assert difference == pytest.approx({"mnist": 2.5, "frey": -33.25}[row[0]], abs=0.06)
        assert ours - published == pytest.approx(difference, abs=0.11)


def test_compare_tells_the_claims_in_any_encoding(record, monkeypatch, capsys):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="cp1252"))
    assert main(["compare"]) == 0
    lines = printed.getvalue().decode("cp1252").splitlines()
    assert [line.split(":")[0] for line in lines if " claims: " in line] == ["17 claims", f"{len(claims.AFTER)} claims"]
    assert b"+---" in printed.getvalue()  # the table's lines
    assert capsys.readouterr().err == ""


def test_compare_needs_nothing_but_results_and_prints_the_same_bytes_in_every_process(tmp_path, capsysbinary):
    """Without data, in another folder, with another order of Python's sets; the verdicts too."""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "4242"
    nothing = dict.fromkeys(("AEVB_DATA", "HOME", "XDG_CACHE_HOME"), str(tmp_path))
    environment = os.environ | nothing | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(notebooks.ROOT)}
    printed = subprocess.check_output([sys.executable, "-m", "aevb", "compare"], cwd=tmp_path, env=environment)
    assert main(["compare"]) == 0
    assert printed == capsysbinary.readouterr().out
    ours, later = claims.of_record(), claims.of_record(claims.AFTER)
    printed_text = printed.decode()
    assert f"\n{claims.headline(ours)}\n" in printed_text
    assert printed_text.rstrip().endswith(claims.headline(later))
    numbers = re.findall(r"^│ +(V?\d+) +│", printed_text, re.MULTILINE)
    assert numbers == [str(number) for table in (ours, later) for number in table["number"]]


def test_an_interruption_of_the_imports_is_one_line(tmp_path):
    (tmp_path / "pandas.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(notebooks.ROOT)])}
    command = [sys.executable, "-m", "aevb", "compare"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "aevb: interrupted\n")


# everything, on a small book


def lay_out(folder: Path, **chapters: str) -> None:
    """A project of its own: the package, the published curves, digits but no faces, and a page per chapter."""
    source = notebooks.ROOT / "aevb"
    shutil.copytree(source, folder / "aevb", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    shutil.copytree(results.ROOT / "published", folder / "results" / "published")
    shutil.copytree(notebooks.BOOK / "_static", folder / "book" / "_static")
    shutil.copy(notebooks.BOOK / "references.bib", folder / "book")
    for name in ("pyproject.toml", "_config.yml", "package.json", "package-lock.json"):
        shutil.copy(notebooks.ROOT / name, folder)
    (folder / "digits").mkdir()
    for file in MNIST_FILES.files:
        (folder / "digits" / file.name).write_bytes(data.payload(MNIST_FILES, file))
    for name, text in chapters.items():
        (folder / "book" / f"{name.strip('_')}.md").write_text(HEADER + text, encoding="utf-8")
    names = [f"book/{name.strip('_')}.ipynb" for name in chapters]
    toc = {"format": "jb-book", "root": names[0], "chapters": [{"file": name} for name in names[1:]]}
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")


def reproduce(folder: Path) -> subprocess.CompletedProcess:
    """`python -m aevb reproduce` in `folder`, on a machine with nothing else and no network."""
    nowhere = dict.fromkeys(
        ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"
    )
    home = {"HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "home"), "no_proxy": "", "NO_PROXY": ""}
    package = {"PYTHONPATH": str(folder), "AEVB_DATA": "digits", "MPLCONFIGDIR": matplotlib.get_cachedir()}
    command = [sys.executable, "-m", "aevb", "reproduce", "--profile", "smoke"]
    return subprocess.run(
        command, cwd=folder, env=os.environ | nowhere | home | package, capture_output=True, text=True, timeout=300
    )


FRONT = "# Front\n\nThe other is {doc}`03_measures`.\n"
MEASURES = """# Measures

```{code-cell} ipython3
:tags: [parameters]

profile = "quick"
```

```{code-cell} ipython3
from aevb import datasets
from aevb.reproduction import results

results.save_measurement(profile, "estimator-variance", len(datasets.load("mnist").test) / 16_000)
```
"""
FAILS = """# Fails

```{code-cell} ipython3
print("so far")
```

```{code-cell} ipython3
# with ``` in it
raise RuntimeError("no `luck` ::::")
```
"""
DIES = """# Dies

```{code-cell} ipython3
import os
os._exit(9)
```
"""
UNREADABLE = """# Unreadable

```{code-cell} ipython3
---
tags: [a
---
print("never read")
```
"""


def test_reproduce_ends_with_the_claims_the_times_the_page_and_what_is_missing(tmp_path):
    lay_out(tmp_path, _00_front=FRONT, _03_measures=MEASURES)
    result = reproduce(tmp_path)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    end = result.stdout[result.stdout.index("Claims, at profile smoke:") :]
    assert "published" in end
    assert "0.62" in next(line for line in end.splitlines() if "estimator variance" in line)
    assert "not measured" in end
    for chapter in ("00_front", "03_measures"):
        (line,) = [line for line in end.splitlines() if line.startswith(chapter)]
        assert line.split()[1].isdigit()
        assert line.split()[2:] == ["s", "ok"]
    assert f"The page: {Path('_build') / 'html' / 'index.html'}" in end
    assert (tmp_path / "_build" / "html" / "book" / "03_measures.html").exists()
    last = end.splitlines()[-1]
    assert last.startswith("Frey Face is missing")
    assert "set AEVB_DATA to that folder" in last
    assert "2/2" in result.stderr  # the bar
    assert not list((tmp_path / "book").glob("*.ipynb"))  # what is committed stays as it is


def article(folder: Path, chapter: str) -> str:
    """The words of a page."""
    content = (folder / "_build" / "html" / "book" / f"{chapter}.html").read_text(encoding="utf-8")
    (found,) = re.findall(r"<article.*?</article>", content, re.DOTALL)
    return re.sub(r"\n\s*\n", "\n", html.unescape(re.sub("<[^>]*>", "", found)))


def test_chapters_that_fail_are_named_and_shown_and_the_others_go_on(tmp_path):
    """In a page that has a fault of its own, too."""
    front = FRONT + "\n{doc}`04_dies`, {doc}`05_unreadable`, {doc}`14_figure_2`, and {numref}`fig-nowhere`.\n"
    chapters = {"_00_front": front, "_03_measures": MEASURES, "_04_dies": DIES, "_05_unreadable": UNREADABLE}
    lay_out(tmp_path, **chapters, _14_figure_2=FAILS)
    measurements = tmp_path / "results" / results.live_folder().name / "smoke" / "measurements"
    measurements.mkdir(parents=True)
    (measurements / "variance-ratio-b-a.json").write_text("0.5", encoding="utf-8")  # of old
    result = reproduce(tmp_path)
    assert result.returncode == 1, result.stdout[-3000:] + result.stderr[-3000:]
    kept = tmp_path / "_build" / "reproduce" / "book" / "14_figure_2.ipynb"
    assert f"FAILED: 14_figure_2, kept half-executed in {kept}" in result.stdout
    assert result.stdout.count("FAILED") == 4
    assert "FAILED: the page has faults, named above" in result.stdout
    assert "fig-nowhere" in result.stderr
    assert f"The page: {Path('_build') / 'html' / 'index.html'}" in result.stdout
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("14_figure_2")]
    assert line.endswith("RuntimeError: no `luck` ::::")
    end = result.stdout[result.stdout.index("Claims") :]
    assert "0.62" in end
    assert "0.5 " not in end
    assert re.search(r"not measured \d+, not measured \(chapter failed\) 6\n", end)  # figure 2's, and the times
    for chapter, title, error, cell, shown in (
        ("14_figure_2", "Fails", "RuntimeError: no `luck` ::::", "code cell 2:\n# with ``` in it\n", "so far"),
        ("04_dies", "Dies", "DeadKernelError: Kernel died", "code cell 1:\nimport os\n", "os._exit"),
        ("05_unreadable", "Unreadable", "cannot be read as a chapter", "", "never read"),
    ):
        notice, rest = article(tmp_path, chapter).split(f"{title}#", 1)
        assert "This chapter failed" in notice
        assert error in notice
        assert cell in notice
        assert shown in rest
    assert "This chapter failed" not in article(tmp_path, "03_measures")
