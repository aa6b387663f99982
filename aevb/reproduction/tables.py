"""Tables that a page shows, as Markdown."""

from typing import Any

import pandas as pd
from IPython.display import Markdown

from aevb.reproduction.figures import NAMES


def markdown_table(header: list[str], rows: list[tuple]) -> Markdown:
    """A table that renders in a notebook and in the page; cells may hold any text."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in (header, *rows)]
    lines = [f"| {' | '.join(line)} |" for line in cells]
    return Markdown("\n".join([lines[0], "| --- " * len(header) + "|", *lines[1:]]))


def claim_link(row: Any) -> str:
    """The words of a claim, linked to its chapter; `row` is one of `claims.of_record`, by `itertuples`."""
    return f"[{row.claim}]({row.chapter}.ipynb)"


def agreement_table(table: pd.DataFrame) -> Markdown:
    """The outcome of `curves.agreement`, one row per curve, one column per place: ours (ours minus published).

    In nats per datapoint. Where there are several seeds, half of their range follows a plus-minus sign.
    """
    curve = list(table.columns[: table.columns.get_loc("samples")])
    places = sorted(table["samples"].unique())
    rows = []
    for name, part in table.groupby(curve):
        at = part.set_index("samples")
        words = (NAMES.get(word, word) if isinstance(word, str) else f"{word:,}" for word in name)
        rows.append((*words, *(_compared(at.loc[place]) if place in at.index else "" for place in places)))
    titles = {"latent_dim": "latents", "n_train": "digits"}
    return markdown_table([*(titles.get(name, name) for name in curve), *(f"{p / 1e6:.0f}M" for p in places)], rows)


def _compared(point: pd.Series) -> str:
    spread = f" ± {point['spread'] / 2:.1f}" if point["seeds"] > 1 else ""
    return f"{point['ours']:.1f} ({point['difference']:+.1f}){spread}"


def closing_box(rows: list[tuple[str, str, str]], who: str = "the paper says") -> Markdown:
    """The closing box of a chapter: what `who` names, the numbers that the chapter computed, one row each."""
    return markdown_table([who, "we got", "tolerance"], rows)
