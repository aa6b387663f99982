"""Bringing what is committed up to date: the notebooks, the recorded measurements, the README."""

import re

import nbformat

from aevb.book import execution, extension, notebooks
from aevb.book.notebooks import DEFAULT_PROFILE, normalise
from aevb.files import write_text, write_whole
from aevb.reproduction import claims, figures, results

SUMMARIES = ("00_", "18_")  # pages that show what the other chapters measured


def update_notebooks(names: list[str]) -> list[execution.ChapterOutcome]:
    """Execute chapters, all or those named, at the default profile, and renew the notebooks of those that succeed.

    Their measurements, and no others that lie here, are recorded before SUMMARIES are executed. Raises ValueError for
    a name that no chapter has.
    """
    texts = notebooks.chapters()
    if names:
        known = {text.stem: text for text in texts}
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"no chapter called {', '.join(unknown)}: choose among {', '.join(known)}")
        texts = [known[name] for name in names]
    for text in texts:
        notebooks.tidy(text)
    results.forget(DEFAULT_PROFILE)
    stage = notebooks.ROOT / "_build" / "notebooks"
    summaries = [text for text in texts if text.name.startswith(SUMMARIES)]
    outcomes = execution.execute_all([text for text in texts if text not in summaries], stage, DEFAULT_PROFILE)
    results.record_measurements(DEFAULT_PROFILE)
    outcomes += execution.execute_all(summaries, stage, DEFAULT_PROFILE)
    for outcome in outcomes:
        if not outcome.error:
            executed = normalise(nbformat.read(stage / f"{outcome.chapter}.ipynb", as_version=4))
            write_text(notebooks.BOOK / f"{outcome.chapter}.ipynb", nbformat.writes(executed) + "\n")
            kept = extension.execution(stage / outcome.chapter).read_text(encoding="utf-8")
            write_text(extension.execution(notebooks.BOOK / outcome.chapter), kept)
    return outcomes


def write_figure() -> None:
    """Draw the README's figure 2 from the record."""
    figures.use_style()
    sources = {"published": results.published("figure2"), "recorded": results.recorded("figure2")}
    write_whole(
        notebooks.BOOK / "_static" / "figure2.png",
        lambda path: figures.figure2(sources).savefig(path, format="png", dpi=90),
    )


def write_headline() -> None:
    """Bring what the README says of the claims and of the published points in line with the record."""
    readme = notebooks.ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    found = {"claims": claims.headline(claims.of_record()), "headline": f"\n{results.headline()}\n"}
    for name, words in found.items():
        text = re.sub(rf"(?s)(<!-- {name} -->).*?(<!-- end -->)", rf"\g<1>{words}\2", text)
    write_text(readme, text)
