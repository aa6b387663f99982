"""Reading what is kept in tables and in JSON; a damaged file is named."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any

import pandas as pd


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A ValueError or KeyError in this block becomes a ValueError that names `path` as damaged."""
    try:
        yield
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged: restore it, or delete it") from error


def read_table(path: Path, columns: list[str], **options: Any) -> pd.DataFrame:
    """The table at `path`, read with these `options` of pandas, or an empty one of these `columns` where there is none.

    Raises ValueError where it lacks one of the columns, or a value in any but the last, or is no table.
    """
    if not path.exists():
        return pd.DataFrame(columns=columns)
    with _naming(path):
        table = pd.read_csv(path, **options)
        if table[columns[:-1]].isna().any(axis=None) or columns[-1] not in table:
            raise ValueError("a row or a column is missing")
    return table


def read_json(path: Path, kind: type | UnionType) -> Any:
    """The value at `path`. Raises ValueError where that is no JSON, or not of this `kind`."""
    with _naming(path):
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, kind):
            raise ValueError(f"a {type(value).__name__}")
    return value
