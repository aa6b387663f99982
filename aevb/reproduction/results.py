"""Results with their provenance: the published curves, the recorded ones, and those of this machine.

`results/published/` holds the paper's curves, `results/recorded/` ours with a manifest, `results/live/` those of this
machine, which nobody keeps. `results/recorded/models/` holds the trained weights that figures 4 and 5 draw, one file
per run, in half precision; their manifest is `results/recorded/models.json`. `results/recorded/posteriors/` holds the
q(theta) of full VB.

Each experiment has the layout of its table (`aevb.reproduction.experiments`). In figure 2 ours has a third split,
`running` (see `aevb.run.Point`); full VB has the splits `data` and `evidence` too.
Whatever reads a damaged file raises ValueError, which names it.
"""

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from aevb import datasets
from aevb.data import cache_folder
from aevb.files import write_bytes, write_text
from aevb.model import VAE
from aevb.reproduction import arithmetic, checkout, experiments
from aevb.reproduction.curves import COMPARABLE_FROM, OUTCOMES, Curves, Kind, against_points
from aevb.reproduction.settings import FIGURE2, FIGURE3_NATS
from aevb.reproduction.stored import read_json, read_table
from aevb.run import Run

IN_CHECKOUT = (checkout.ROOT / "pyproject.toml").exists()  # not installed without it
ROOT = checkout.ROOT / ("results" if IN_CHECKOUT else "aevb/results")  # installed, `results` is in the package
# the columns of the recorded tables that are no experiment's: what `benchmarks.training` and `burda` measured
TABLES = {
    "speed": ["what", "quantity", "setting", "median", "low", "high", "unit"],
    "burda": ["k", "seed", "passes", "nll", "standard_error"],
}


def published(figure: str) -> Curves:
    """The paper's curves of "figure2" or "figure3", read off its figures (see `results/published/README.md`)."""
    path = _kept("published") / f"{figure}.csv"
    if not path.exists():
        raise ValueError(f"no published curves for {figure!r}: there are 'figure2' and 'figure3'")
    kind = experiments.get(figure).kind
    return Curves(read_table(path, [*kind.names, "samples", kind.value]), kind)


def recorded(figure: str) -> Curves:
    """Our recorded curves for `figure`; none where nothing is recorded yet."""
    return _curves(_kept("recorded"), figure)


def manifest(figure: str) -> dict[str, dict]:
    """The configuration, step size, commit, versions, machine and time of each recorded run of `figure`, by its key.

    The manifest of "models" is about the recorded weights.
    """
    return _manifest(_kept("recorded"), figure)


def live_folder() -> Path:
    """The folder of what this machine computes; a folder of its own for each arithmetic but the native one."""
    name = arithmetic.current()
    root = ROOT if IN_CHECKOUT else cache_folder() / "results"  # nobody may write where packages are installed
    return root / ("live" if name == arithmetic.NATIVE else f"live-{name}")


def live(figure: str, profile: str) -> tuple[Curves, dict[str, dict]]:
    """The curves of `figure` last computed on this machine at `profile`, and their manifest; empty where none were."""
    return _curves(live_folder() / profile, figure), _manifest(live_folder() / profile, figure)


def must_be_in_checkout(what: str) -> None:
    """Raise ValueError where the package is installed without its checkout, to which `what` belongs."""
    if not IN_CHECKOUT:
        raise ValueError(
            f"{what} belongs to the checkout and is not installed: clone the repository, and install the package from "
            "there by `python -m pip install --editable .`"
        )


def _kept(part: str) -> Path:
    """The folder "published" or "recorded", or one in it. Raises ValueError where it is not installed: weights."""
    folder = ROOT / part
    if not folder.exists():
        must_be_in_checkout(f"results/{part}")
    return folder


def _curves(folder: Path, figure: str) -> Curves:
    path, kind = folder / f"{figure}.csv", experiments.get(figure).kind
    return Curves(read_table(path, table_columns(kind)), kind)


def table_columns(kind: Kind) -> list[str]:
    """The columns of a table of ours."""
    return ["run", *kind.names, "seed", "samples", kind.value]


def _manifest(folder: Path, figure: str) -> dict[str, dict]:
    path = folder / f"{figure}.json"
    return read_json(path, dict) if path.exists() else {}


def _write(folder: Path, figure: str, table: pd.DataFrame, entries: dict[str, dict]) -> None:
    write_text(folder / f"{figure}.csv", table.to_csv(index=False, float_format="%.3f"))
    write_text(folder / f"{figure}.json", json.dumps(entries, indent=1, sort_keys=True) + "\n")


def table(name: str) -> tuple[pd.DataFrame, dict]:
    """The recorded table called `name` and its provenance; both empty without a record.

    Raises ValueError where it is none of TABLES, and where its file is damaged.
    """
    if name not in TABLES:
        raise ValueError(f"no recorded table {name!r}: there are {', '.join(TABLES)}")
    folder = _kept("recorded")
    return read_table(folder / f"{name}.csv", TABLES[name], keep_default_na=False), _manifest(folder, name)


def write_table(name: str, table: pd.DataFrame, about: dict) -> None:
    """Record the table called `name`, of those in TABLES, in place of the last."""
    _write(_kept("recorded"), name, table, about)


def lay_out(figure: str, table: pd.DataFrame) -> Curves:
    """The curves of `figure` out of a grid's table, which may be empty."""
    kind = experiments.get(figure).kind
    return Curves(table[table_columns(kind)] if len(table) else pd.DataFrame(columns=table_columns(kind)), kind)


def write_live(figure: str, profile: str, curves: Curves, entries: dict[str, dict]) -> None:
    """Keep the curves just computed at `profile`, for the table of claims."""
    _write(live_folder() / profile, figure, curves.table, entries)


def write_record(figure: str, curves: Curves, entries: dict[str, dict]) -> None:
    """Add runs to the record of `figure`; where a run is recorded already, the longer curve stays.

    The whole record is read and written anew, without a lock: of two processes that record at once, one loses runs.
    """
    kept, table, known = recorded(figure).table, curves.table, manifest(figure)
    for key, entry in entries.items():
        if known.get(key, {}).get("samples", 0) > entry["samples"]:
            continue
        known[key] = entry
        others = kept[kept["run"] != key]
        parts = [part for part in (others, table[table["run"] == key]) if len(part)]
        kept = pd.concat(parts) if parts else others
    kept = kept.sort_values([*curves.kind.names, "seed", "samples"])
    _write(_kept("recorded"), figure, kept, known)


def model_path(run: Run) -> Path:
    """The path of the recorded weights of `run`, which need not exist."""
    return _kept("recorded/models") / f"{run.key}.npz"


def write_model(run: Run, model: VAE, entry: dict) -> None:
    """Record the weights of `model`, the outcome of `run`, rounded to half precision; `entry` is for the manifest.

    Where a model of this run that saw more samples is recorded already, that one stays. One process at a time records,
    as in `write_record`.
    """
    known, path = manifest("models"), model_path(run)
    if path.exists() and known.get(run.key, {}).get("samples", 0) > entry["samples"]:
        return
    _write_halves(path, dict(model.named_parameters()))
    text = json.dumps(known | {run.key: entry}, indent=1, sort_keys=True)
    write_text(_kept("recorded") / "models.json", text + "\n")


def recorded_model(run: Run) -> VAE:
    """The model that `run` ended with, from the record; needs no data. Its weights were rounded to half precision.

    Raises ValueError where none is recorded, or where its file is damaged.
    """
    path = model_path(run)
    if not path.exists():
        raise ValueError(
            f"no model is recorded for {run}: `python -m aevb record figure4` (or figure5) records its own"
        )
    try:
        weights = _read_halves(path)
        n_pixels = weights["encoder.hidden.weight"].shape[1]
        shape = n_pixels, run.hidden, run.latent_dim
        model = datasets.get(run.dataset).likelihood.vae(
            *shape, generator=torch.Generator(), slow_log_var=run.slow_log_var
        )
        model.load_state_dict(weights)
    except Exception as error:  # numpy, zipfile and torch raise many kinds for a damaged file, all of them meaning this
        raise ValueError(f"{path} is no model of {run}: restore it, or record it again") from error
    return model


def write_posterior(key: str, mu: Tensor, log_var: Tensor) -> None:
    """Record the q(theta) of full VB, `mu` and `log_var` `(K,)`, at the end of the run `key`, in half precision."""
    _write_halves(posterior_path(key), {"mu": mu, "log_var": log_var})


def posterior_path(key: str) -> Path:
    """The path of the recorded q(theta) of the run `key`, which need not exist."""
    return _kept("recorded/posteriors") / f"{key}.npz"


def recorded_posterior(key: str) -> tuple[Tensor, Tensor]:
    """`mu` and `log_var`, each `(K,)`, of the q(theta) recorded for the run `key`.

    Raises ValueError where none is recorded, or where its file is damaged.
    """
    path = posterior_path(key)
    if not path.exists():
        raise ValueError(f"no posterior is recorded for run {key}: record full-vb")
    try:
        halves = _read_halves(path)
        return halves["mu"], halves["log_var"]
    except Exception as error:  # as in `recorded_model`
        raise ValueError(f"{path} is no posterior of run {key}: restore it, or record full-vb again") from error


def _write_halves(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors` by their names, rounded to half precision."""
    halves: dict[str, Any] = {name: tensor.detach().half().cpu().numpy() for name, tensor in tensors.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **halves)
    write_bytes(path, buffer.getvalue())


def _read_halves(path: Path) -> dict[str, Tensor]:
    """What `_write_halves` wrote, in float32."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as halves:
        return {name: torch.from_numpy(half.astype(np.float32)) for name, half in halves.items()}


def extent(figure: str) -> list[str]:
    """The reach of the record of `figure`: for each dataset the seeds, and the samples that all of their runs reach."""
    rows = [{**entry["config"], "samples": entry["samples"]} for entry in manifest(figure).values()]
    runs = pd.DataFrame(rows, columns=["dataset", "seed", "samples"])
    lines = []
    for dataset, by_seed in runs.groupby(["dataset", "seed"])["samples"].min().groupby("dataset"):
        parts = [
            f"seed{'s' * (len(seeds) > 1)} {', '.join(str(seed) for _, seed in seeds.index)} "
            f"to {samples:,} samples or further"
            for samples, seeds in sorted(by_seed.groupby(by_seed), reverse=True)
        ]
        lines.append(f"{datasets.get(dataset).title}: {'; '.join(parts)}")
    return lines


def headline() -> str:
    """The numbers of published points of figures 2 and 3 by the record's outcome at them: a Markdown list."""
    parts: list[tuple[str, str, dict[str, str]]] = []
    for name, panels in FIGURE2.items():
        within = f"{panels.nats:.0f} nats" if panels.nats else f"{100 * panels.share:.0f} %"
        title = f"figure 2, {datasets.get(name).title}, from {COMPARABLE_FROM:,.0f} samples on, within {within}"
        parts.append((title, "figure2", {"dataset": name}))
    parts.append((f"figure 3, within {FIGURE3_NATS:.0f} nats", "figure3", {}))
    return "\n".join(f"- {title}: {_count(figure, rows)}" for title, figure, rows in parts)


def _count(figure: str, rows: dict[str, str]) -> str:
    theirs = published(figure).select(**rows)
    reached = against_points(recorded(figure), theirs)["outcome"].value_counts()
    counts = ", ".join(f"{reached.get(outcome, 0)} {outcome}" for outcome in OUTCOMES)
    comparable = int((theirs.table["samples"] >= COMPARABLE_FROM).sum())
    return f"{counts}, {comparable - int(reached.sum())} not reached, of {comparable} published points"


def save_measurement(profile: str, name: str, value: float) -> None:
    """Keep one number that a chapter measured at `profile`, for the table of claims."""
    write_text(live_folder() / profile / "measurements" / f"{name}.json", json.dumps(value))


def measurements(profile: str) -> dict[str, float]:
    """The numbers that chapters measured at this profile on this machine, by name."""
    folder = live_folder() / profile / "measurements"
    return {path.stem: read_json(path, int | float) for path in sorted(folder.glob("*.json"))}


def record_measurements(profile: str) -> None:
    """Add to the record the numbers that chapters measured on this machine at `profile`."""
    rounded = {name: float(f"{value:.4g}") for name, value in measurements(profile).items()}
    known = recorded_measurements() | rounded
    write_text(_kept("recorded") / "measurements.json", json.dumps(known, indent=1, sort_keys=True) + "\n")


def recorded_measurements() -> dict[str, float]:
    """The recorded measurements, by name."""
    path = _kept("recorded") / "measurements.json"
    return read_json(path, dict) if path.exists() else {}


def forget(profile: str) -> None:
    """Drop the findings of chapters at this profile, not the runs: a table of claims shows one execution."""
    shutil.rmtree(live_folder() / profile, ignore_errors=True)
