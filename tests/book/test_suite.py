import subprocess
from pathlib import Path

import pytest

from aevb import __main__ as cli
from aevb.__main__ import main
from aevb.book import notebooks, suite
from aevb.reproduction import arithmetic


def ran(words: list[str], monkeypatch, failing: int | None = None) -> tuple[int, list, list]:
    """The status of a command, the steps it ran and the environment of each; the one in place `failing` fails."""
    steps, environments = [], []

    def run(step, *, env, **_):
        steps.append([str(word) for word in step])
        environments.append(env)
        return subprocess.CompletedProcess(step, int(len(steps) - 1 == failing))

    monkeypatch.setattr(suite.subprocess, "run", run)
    monkeypatch.setattr(arithmetic, "differing", lambda name: ["product"])
    return main(words), steps, environments


def executed(steps: list[list[str]]) -> set[str]:
    """The notebooks that nbval compares."""
    return {Path(word).name for step in steps if "--nbval" in step for word in step if word.endswith(".ipynb")}


@pytest.mark.parametrize("failing", [None, 0, 1, 2, 3, 4])
def test_a_failing_step_fails_the_tests_and_the_summary_names_it(failing, monkeypatch, capsys):
    """Lint, format, types, notebooks, units: all run, even after a failure."""
    status, steps, _ = ran(["test"], monkeypatch, failing)
    assert status == (0 if failing is None else 1)
    assert len(steps) == 5
    assert executed(steps) == {path.name for path in notebooks.BOOK.glob("*.ipynb")}
    summary = capsys.readouterr().out.splitlines()[-5:]
    assert [("FAILED" in line) for line in summary] == [number == failing for number in range(5)]
    assert [line.split("  ")[0] for line in summary] == ["lint", "format", "types", "notebooks", "unit tests"]


def test_every_step_computes_by_the_arithmetic_that_was_asked_for(monkeypatch, capsys):
    status, steps, environments = ran(["test", "--arithmetic", "plain", "--live"], monkeypatch)
    assert (status, len(steps)) == (0, 1)
    assert all(arithmetic.SETTINGS["plain"].items() <= environment.items() for environment in environments)
    assert "arithmetic: plain; other than this machine's own in the last bits of product" in capsys.readouterr().out
    assert {"14_figure_2.ipynb", "15_figure_3.ipynb"} <= executed(steps)
    assert not {"00_what_this_is.ipynb", "18_verdict.ipynb"} & executed(steps)  # they train nothing


def test_what_is_checked_on_every_save_exists(monkeypatch):
    _, steps, _ = ran(["check"], monkeypatch)
    files = [word for step in steps for word in step if word.startswith("tests/")]
    assert len(files) > 5
    assert all((notebooks.ROOT / file).exists() for file in files)
    left = [word.removeprefix("--deselect=").split("::") for step in steps for word in step if "::" in word]
    assert len(left) == len(suite.SLOW)
    assert all(f"def {name}" in (notebooks.ROOT / file).read_text(encoding="utf-8") for file, name in left)
    assert executed(steps) == set()


def test_an_unknown_arithmetic_is_a_mistake(capsys):
    assert cli.main(["test", "--arithmetic", "sparc"]) == 2
    assert capsys.readouterr().err == "aevb: unknown arithmetic 'sparc': choose one of native, plain, avx2\n"
