"""The table of the page on what fails in the authors' own curves."""

import pandas as pd
from IPython.display import Markdown

from aevb.reproduction import tables


def failing(judged: pd.DataFrame) -> Markdown:
    """The table of claims that fail, a row of `claims.of_published` each, with what the curves show."""
    rows = [
        (row.number, f"{tables.claim_link(row)} {row.where}", row.measure, row.published, f"**{row.verdict}**")
        for row in judged.itertuples()
    ]
    return tables.markdown_table(["", "the paper claims", "measured by", "its own curves show", "verdict"], rows)
