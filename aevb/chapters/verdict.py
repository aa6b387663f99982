"""Figures and tables of the chapter on the verdict."""

import pandas as pd
from IPython.display import Markdown

from aevb.reproduction import figures, tables
from aevb.reproduction.verdicts import Interval


def intervals(judged: pd.DataFrame) -> Markdown:
    """The table of the intervals over our seeds, by claim; claims without one share a row.

    The measures, the numbers and the verdicts are on the front page.
    """
    several = judged["seeds"].str.contains("seeds")
    rows = [(row.number, tables.claim_link(row), row.seeds) for row in judged[several].itertuples()]
    for seeds, part in judged[~several].groupby("seeds", sort=False):
        rows.append((", ".join(map(str, part["number"])), "", seeds))
    return tables.markdown_table(["", "the paper claims", "our seeds"], rows)


def later(judged: pd.DataFrame) -> Markdown:
    """The table of the claims of later papers, `claims.of_record(claims.AFTER)`: their words, our numbers."""
    rows = [
        (
            row.number,
            f"{tables.claim_link(row)} ({row.where})<br>*{row.measure}*",
            row.published,
            row.ours,
            row.seeds,
            row.verdict,
        )
        for row in judged.itertuples()
    ]
    header = ["", "they claim; *what is measured*", "they say", "ours", "95 % over seeds", "verdict"]
    return tables.markdown_table(header, rows)


def leads(panels: dict[tuple[str, int], tuple[int, float, float, Interval, float, float]]) -> Markdown:
    """The table of AEVB's leads over wake-sleep, a row per panel of figure 2.

    `panels` has for each the samples at which leads are compared, the published lead and ours, in nats, the interval
    over seeds, and how many times fewer samples AEVB needs, published and ours.
    """
    rows = [
        (
            figures.NAMES[dataset],
            latent_dim,
            f"{end / 1e6:.0f}M",
            f"{theirs:+.1f}",
            f"{ours:+.1f}",
            f"{low:+.1f} to {high:+.1f}",
            f"{their_ratio:.1f}x",
            f"{our_ratio:.1f}x",
        )
        for (dataset, latent_dim), (end, theirs, ours, (low, high), their_ratio, our_ratio) in panels.items()
    ]
    header = [
        "",
        "latents",
        "at",
        "published lead there",
        "ours there",
        "95 % over seeds",
        "published speed-up",
        "ours",
    ]
    return tables.markdown_table(header, rows)
