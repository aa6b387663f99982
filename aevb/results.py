"""Tidy tables with their provenance: the published curves, the recorded ones, and how they agree.

A curve table has a row a point, in nats per datapoint. Figure 2: `dataset, latent_dim, algorithm, split, samples,
lower_bound`; figure 3: `n_train, algorithm, split, samples, log_likelihood`. Ours have also `run` and `seed`, and in
figure 2 a third split, `running` (see `aevb.training.Point`). The table "full-vb" is laid out as figure 3's, of
`lower_bound`, and full VB has the splits `data` and `evidence` too; its q(theta) is kept in `posteriors/`.
`results/published/` holds the paper's curves, `results/recorded/` ours with a manifest, `results/live/` what this
machine has computed and nobody keeps. `results/recorded/models/` holds the trained weights that figures 4 and 5 draw,
a file a run, in half precision; their manifest is `results/recorded/models.json`.
"""

import ast
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from aevb import arithmetic
from aevb.data import TITLES
from aevb.files import write_bytes, write_text, write_whole
from aevb.model import VAE, bernoulli_vae, gaussian_vae
from aevb.training import Run

ROOT = Path(__file__).resolve().parents[1] / "results"
IN_CHECKOUT = (ROOT.parent / "pyproject.toml").exists()  # and not installed without it
# the modules whose code decides the numbers of a run
NUMERICAL = (
    "checks",
    "data",
    "networks",
    "model",
    "bounds",
    "objectives",
    "hmc",
    "mcem",
    "full_vb",
    "marginal_likelihood",
    "optimizer",
    "ensemble",
    "training",
)


SPEED_COLUMNS = ["what", "quantity", "setting", "median", "low", "high", "unit"]
COMPARABLE_FROM = 3e5  # samples; below, the published curves of figure 2 have too few points to compare with


class Layout(NamedTuple):
    """How a figure's table is laid out: the columns that name a curve, the one of its values, where to compare."""

    curve: list[str]
    value: str
    samples: tuple[float, ...]


FIGURE_2 = Layout(["dataset", "latent_dim", "algorithm", "split"], "lower_bound", (1e6, 1e7, 3e7, 1e8))
FIGURE_3 = Layout(["n_train", "algorithm", "split"], "log_likelihood", (1e6, 5e6, 1e7, 2e7, 6e7))
READING = Layout(["question", "answer", "dataset", "latent_dim", "algorithm", "split"], "lower_bound", (1e6,))
LAYOUTS = {
    "figure2": FIGURE_2,
    "figure3": FIGURE_3,
    "figure4": FIGURE_2,
    "figure5": FIGURE_2,
    # figure 2's runs where both algorithms are trained alike
    "figure2-alike": FIGURE_2,
    # their runs at other step sizes of section 5
    "figure2-step-sizes": Layout(["dataset", "latent_dim", "algorithm", "step_size", "split"], "lower_bound", (1e6,)),
    # figure 2's runs where they end, on each ten thousand digits
    "figure2-digits": FIGURE_2,
    # Frey Face with other minibatches
    "figure2-minibatches": Layout(
        ["dataset", "latent_dim", "algorithm", "batch_size", "split"], "lower_bound", (1e6, 1e7)
    ),
    # the beginnings of figures 2 and 3 with more seeds
    "figure2-seeds": FIGURE_2,
    "figure3-seeds": FIGURE_3,
    "figure3-step-sizes": Layout(["n_train", "algorithm", "step_size", "split"], "log_likelihood", (1e6,)),
    # runs of figure 2 with one thing changed
    "readings": READING,
    "readings-by-latents": READING,
    "readings-plateau": READING,
    "full-vb": Layout(["n_train", "algorithm", "split"], "lower_bound", (1e6, 1e7)),
    "full-vb-settings": Layout(["n_train", "step_size", "initial_sigma", "split"], "lower_bound", (1e6,)),
}


def published(figure: str) -> pd.DataFrame:
    """The paper's curves of "figure2" or "figure3", read off its figures (see `results/published/README.md`)."""
    path = _kept("published") / f"{figure}.csv"
    if not path.exists():
        raise ValueError(f"no published curves for {figure!r}: there are 'figure2' and 'figure3'")
    return pd.read_csv(path)


def recorded(figure: str) -> pd.DataFrame:
    """Our recorded curves for `figure`; an empty table where nothing is recorded yet."""
    return _curves(_kept("recorded"), figure)


def manifest(figure: str) -> dict[str, dict]:
    """For each recorded run of `figure`, by its key: configuration, step size, commit, versions, machine, time.

    That of "models" is about the recorded weights.
    """
    return _manifest(_kept("recorded"), figure)


def live_folder() -> Path:
    """Where this machine keeps what it computes; a folder of its own for each arithmetic but the native one."""
    name = arithmetic.current()
    return ROOT / ("live" if name == arithmetic.NATIVE else f"live-{name}")


def live(figure: str, profile: str) -> tuple[pd.DataFrame, dict[str, dict]]:
    """The curves of `figure` last computed on this machine at `profile`, and their manifest; empty where none were."""
    return _curves(live_folder() / profile, figure), _manifest(live_folder() / profile, figure)


def _kept(part: str) -> Path:
    """The folder "published" or "recorded". Raises ValueError where the package is installed without its checkout."""
    if not IN_CHECKOUT:
        raise ValueError(
            f"results/{part} belongs to the checkout and is not installed: clone the repository, and install the "
            "package from there by `python -m pip install --editable .`"
        )
    return ROOT / part


def _curves(folder: Path, figure: str) -> pd.DataFrame:
    if figure not in LAYOUTS:
        raise ValueError(f"unknown figure {figure!r}: choose one of {', '.join(LAYOUTS)}")
    path, layout = folder / f"{figure}.csv", LAYOUTS[figure]
    empty = pd.DataFrame(columns=["run", *layout.curve, "seed", "samples", layout.value])
    return pd.read_csv(path) if path.exists() else empty


def _manifest(folder: Path, figure: str) -> dict[str, dict]:
    path = folder / f"{figure}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _write(folder: Path, figure: str, table: pd.DataFrame, entries: dict[str, dict]) -> None:
    write_text(folder / f"{figure}.csv", table.to_csv(index=False, float_format="%.3f"))
    write_text(folder / f"{figure}.json", json.dumps(entries, indent=1, sort_keys=True) + "\n")


def speed() -> tuple[pd.DataFrame, dict]:
    """What `benchmarks.training` recorded: SPEED_COLUMNS, empty where nothing is recorded yet, and its provenance."""
    folder = _kept("recorded")
    path = folder / "speed.csv"
    table = pd.read_csv(path, keep_default_na=False) if path.exists() else pd.DataFrame(columns=SPEED_COLUMNS)
    return table, _manifest(folder, "speed")


def write_speed(table: pd.DataFrame, about: dict) -> None:
    """Record what the benchmark measured, in place of what it measured before."""
    _write(_kept("recorded"), "speed", table, about)


def lay_out(figure: str, table: pd.DataFrame) -> pd.DataFrame:
    """The columns of `figure`'s table, out of a grid's."""
    layout = LAYOUTS[figure]
    return table[["run", *layout.curve, "seed", "samples", layout.value]]


def write_live(figure: str, profile: str, table: pd.DataFrame, entries: dict[str, dict]) -> None:
    """Keep the curves just computed at `profile`, for the table of claims."""
    _write(live_folder() / profile, figure, table, entries)


def write_record(figure: str, table: pd.DataFrame, entries: dict[str, dict]) -> None:
    """Add runs to the record of `figure`; where a run is recorded already, the longer curve stays."""
    kept, known = recorded(figure), manifest(figure)
    for key, entry in entries.items():
        if known.get(key, {}).get("samples", 0) > entry["samples"]:
            continue
        known[key] = entry
        others = kept[kept["run"] != key]
        kept = pd.concat([part for part in (others, table[table["run"] == key]) if len(part)])
    kept = kept.sort_values([*LAYOUTS[figure].curve, "seed", "samples"])
    _write(_kept("recorded"), figure, kept, known)


def _model_path(run: Run) -> Path:
    return _kept("recorded") / "models" / f"{run.key}.npz"


def write_model(run: Run, model: VAE, entry: dict) -> None:
    """Record the weights of `model`, the outcome of `run`, rounded to half precision; `entry` is for the manifest.

    Where a model of this run that saw more samples is recorded already, that one stays.
    """
    known, path = manifest("models"), _model_path(run)
    if path.exists() and known.get(run.key, {}).get("samples", 0) > entry["samples"]:
        return
    weights = {name: weight.detach().cpu().numpy().astype(np.float16) for name, weight in model.named_parameters()}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # by its name, numpy would add a suffix
            np.savez_compressed(file, **weights)

    write_whole(path, write)
    text = json.dumps(known | {run.key: entry}, indent=1, sort_keys=True)
    write_text(_kept("recorded") / "models.json", text + "\n")


def recorded_model(run: Run) -> VAE:
    """The model that `run` ended with, from the record; needs no data. Its weights were rounded to half precision.

    Raises ValueError where none is recorded, or where its file is damaged.
    """
    path = _model_path(run)
    if not path.exists():
        raise ValueError(
            f"no model is recorded for {run}: `python -m aevb record figure4` (or figure5) records its own"
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            weights = {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}
        build = gaussian_vae if run.dataset == "frey" else bernoulli_vae
        n_pixels = weights["encoder.hidden.weight"].shape[1]
        shape = n_pixels, run.hidden, run.latent_dim
        model = build(*shape, generator=torch.Generator(), slow_log_var=run.slow_log_var)
        model.load_state_dict(weights)
    except Exception as error:  # numpy, zipfile and torch raise many kinds for a damaged file, all of them meaning this
        raise ValueError(f"{path} is no model of {run}: restore it, or record it again") from error
    return model


def write_posterior(key: str, mu: Tensor, log_var: Tensor) -> None:
    """Record the q(theta) of full VB, `mu` and `log_var` `(K,)`, at the end of the run `key`, in half precision."""
    halves = {name: value.detach().half().cpu().numpy() for name, value in (("mu", mu), ("log_var", log_var))}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **halves)
    write_bytes(_kept("recorded") / "posteriors" / f"{key}.npz", buffer.getvalue())


def recorded_posterior(key: str) -> tuple[Tensor, Tensor]:
    """`mu` and `log_var`, each `(K,)`, of the q(theta) recorded for the run `key`.

    Raises ValueError where there is none.
    """
    path = _kept("recorded") / "posteriors" / f"{key}.npz"
    if not path.exists():
        raise ValueError(f"no posterior is recorded for run {key}: record full-vb")
    with np.load(path) as halves:
        return tuple(torch.tensor(halves[name]).float() for name in ("mu", "log_var"))


def at(table: pd.DataFrame, samples: float) -> pd.Series:
    """Each curve's value at `samples`, interpolated linearly in log samples and averaged over seeds.

    Indexed by the curve's name (`LAYOUTS`); curves that do not reach that far, or begin later, are left out.
    """
    return at_each_seed(table, samples).groupby(_layout(table).curve).mean()


def at_each_seed(table: pd.DataFrame, samples: float) -> pd.Series:
    """`at` of every seed by itself, the last level of the index."""
    layout = _layout(table)

    def interpolate(curve: pd.DataFrame) -> float:
        curve = curve.sort_values("samples")
        known = np.log(curve["samples"]), curve[layout.value].astype(float)
        return np.interp(np.log(samples), *known, left=np.nan, right=np.nan)

    by = layout.curve + (["seed"] if "seed" in table else [])
    values = {name: interpolate(curve) for name, curve in table.groupby(by, sort=False)}
    index = (
        pd.MultiIndex.from_tuples(values, names=by) if values else pd.MultiIndex.from_arrays([[]] * len(by), names=by)
    )
    return pd.Series(list(values.values()), index=index, name=layout.value, dtype=float).dropna()


def _layout(table: pd.DataFrame) -> Layout:
    """The layout that a table has: the one with the most columns among those that fit."""
    fitting = [layout for layout in LAYOUTS.values() if {*layout.curve, layout.value} <= set(table)]
    return max(fitting, key=lambda layout: len(layout.curve))


def reach(table: pd.DataFrame) -> pd.Series:
    """For each row the samples at which its curve, that of its seed, ends."""
    return table.groupby([*_layout(table).curve, "seed"])["samples"].transform("max")


def furthest(table: pd.DataFrame) -> pd.DataFrame:
    """Of each curve the seeds that go furthest: a mean over fewer seeds from some point on would have a step there."""
    return table[reach(table) == _among_seeds(table, "max")] if "seed" in table else table


def shared(table: pd.DataFrame) -> pd.DataFrame:
    """Of each curve what all its seeds reach: the points up to where the seed that stops first ends."""
    return table[table["samples"] <= _among_seeds(table, "min")]


def _among_seeds(table: pd.DataFrame, extreme: str) -> pd.Series:
    return reach(table).groupby([table[name] for name in _layout(table).curve]).transform(extreme)


def agreement(ours: pd.DataFrame, theirs: pd.DataFrame, samples: tuple[float, ...] | None = None) -> pd.DataFrame:
    """Ours minus published for every curve at each of `samples`, as far as both go, in nats per datapoint.

    Columns: those that name a curve, `samples`, `published`, `ours`, `difference`, and over how many seeds ours is the
    mean, `seeds`, and how far these lie apart, `spread` (NaN for one). By default `samples` are those of `LAYOUTS`.
    Not below COMPARABLE_FROM samples.
    """
    layout, parts = _layout(theirs), []
    for count in samples or layout.samples:
        seeds = at_each_seed(ours, count).groupby(layout.curve)
        pair = pd.DataFrame({"published": at(theirs, count), "ours": seeds.mean(), "seeds": seeds.size()}).dropna()
        spread = (seeds.max() - seeds.min())[pair.index].where(pair["seeds"] > 1)
        both = pair.assign(spread=spread).reset_index()
        both.insert(len(layout.curve), "samples", int(count))
        parts.append(both)
    table = pd.concat(parts, ignore_index=True).astype({"seeds": int})
    table.insert(table.columns.get_loc("seeds"), "difference", table["ours"] - table["published"])
    return table


def against_points(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Each published point from COMPARABLE_FROM samples on that our curve reaches, and whether ours meets it.

    Columns: those of `theirs`, `ours` (interpolated in log samples, the mean over the seeds that go furthest) and
    `outcome`: "met" within `tolerance`, else "beaten" where ours is higher or "missed".
    """
    layout, parts = _layout(theirs), []
    theirs = theirs[theirs["samples"] >= COMPARABLE_FROM]
    curves = dict(list(furthest(ours).groupby([*layout.curve, "samples"])[layout.value].mean().groupby(layout.curve)))
    for name, points in theirs.groupby(layout.curve):
        if name in curves:
            known = curves[name].droplevel(layout.curve)
            reached = points[points["samples"].between(known.index[0], known.index[-1])]
            parts.append(reached.assign(ours=np.interp(np.log(reached["samples"]), np.log(known.index), known)))
    table = pd.concat(parts, ignore_index=True) if parts else theirs[:0].assign(ours=pd.Series(dtype=float))
    difference, within = table["ours"] - table[layout.value], tolerance(table)
    outcome = np.select([difference.abs() <= within, difference > 0], ["met", "beaten"], "missed")
    return table.assign(outcome=outcome)


def tolerance(points: pd.DataFrame) -> pd.Series:
    """What we take for meeting a published point, nats: 2 on figure 2's MNIST, 3 % on Frey Face, 3 in figure 3."""
    if "dataset" not in points:
        return pd.Series(3.0, points.index)
    return (0.03 * points["lower_bound"].abs()).where(points["dataset"] == "frey", 2.0)


def extent(figure: str) -> list[str]:
    """How far the record of `figure` goes: of each dataset the seeds, and the samples that all of their runs reach."""
    rows = [{**entry["config"], "samples": entry["samples"]} for entry in manifest(figure).values()]
    runs = pd.DataFrame(rows, columns=["dataset", "seed", "samples"])
    lines = []
    for dataset, by_seed in runs.groupby(["dataset", "seed"])["samples"].min().groupby("dataset"):
        parts = [
            f"seed{'s' * (len(seeds) > 1)} {', '.join(str(seed) for _, seed in seeds.index)} to {samples:,}"
            for samples, seeds in sorted(by_seed.groupby(by_seed), reverse=True)
        ]
        lines.append(f"{TITLES[dataset]}: {'; '.join(parts)} samples or further")
    return lines


def headline() -> str:
    """How many published points of figures 2 and 3 the record meets, beats and misses: a Markdown list."""
    parts = [
        ("figure 2, MNIST, within 2 nats", "figure2", "dataset == 'mnist'"),
        ("figure 2, Frey Face, within 3 %", "figure2", "dataset == 'frey'"),
        ("figure 3, within 3 nats", "figure3", "n_train > 0"),
    ]
    return "\n".join(f"- {title}: {_count(figure, rows)}" for title, figure, rows in parts)


def _count(figure: str, rows: str) -> str:
    theirs = published(figure).query(rows)
    reached = against_points(recorded(figure), theirs)["outcome"].value_counts()
    counts = ", ".join(f"{reached.get(outcome, 0)} {outcome}" for outcome in ("met", "beaten", "missed"))
    comparable = int((theirs["samples"] >= COMPARABLE_FROM).sum())
    return f"{counts}, {comparable - int(reached.sum())} not reached, of {comparable} published points"


def provenance() -> dict:
    """Where and with what numbers are being computed: commit, versions, machine. No names, no paths."""
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "system": platform.system(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def commit() -> str:
    """The commit of this tree, with a plus sign where the code differs from it.

    Raises ValueError, with the reason in one line, where git knows none: no git, no checkout, one whose owner git does
    not trust, or a folder inside another repository.
    """
    # a hook, say, sets these for the repository that it is of
    environment = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE")}

    def git(*words: str) -> str:
        how = {"cwd": ROOT.parent, "env": environment, "capture_output": True, "text": True, "check": True}
        return subprocess.run(["git", *words], **how).stdout.strip()

    try:
        if git("rev-parse", "--show-prefix"):
            raise ValueError(f"{ROOT.parent} is no checkout, but a folder inside one")
        changed = git("status", "--porcelain", "--", "aevb", "benchmarks", "requirements.txt")
        return git("rev-parse", "--short=12", "HEAD") + "+" * bool(changed)
    except subprocess.CalledProcessError as error:
        raise ValueError(" ".join(error.stderr.split())) from error
    except OSError as error:
        raise ValueError(f"git does not run here ({error.strerror})") from error


def _commit() -> str:
    try:
        return commit()
    except ValueError:
        return "unknown"


def announce_commit() -> None:
    """Say on standard error, before a long record starts, that its manifest will not name a commit, and why."""
    try:
        commit()
    except ValueError as error:
        print(f"The record will say of its commit: unknown. {error}", file=sys.stderr)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in cpuinfo.read_text(encoding="utf-8").splitlines()
            if "model name" in line
        ]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def fingerprint() -> str:
    """A hash of the code that decides a run's numbers, blind to comments, docstrings and layout.

    Live results are kept under it, so that a reader who changes an objective sees new curves, not old ones.
    """
    digest = hashlib.sha256()
    for name in NUMERICAL:
        tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:8]


def save_measurement(profile: str, name: str, value: float) -> None:
    """Keep one number that a chapter measured at `profile`, for the table of claims."""
    write_text(live_folder() / profile / "measurements" / f"{name}.json", json.dumps(value))


def measurements(profile: str) -> dict[str, float]:
    """The numbers that chapters measured at this profile on this machine, by name."""
    folder = live_folder() / profile / "measurements"
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def record_measurements(profile: str) -> None:
    """Add what chapters measured on this machine at `profile` to the record."""
    rounded = {name: float(f"{value:.4g}") for name, value in measurements(profile).items()}
    known = recorded_measurements() | rounded
    write_text(_kept("recorded") / "measurements.json", json.dumps(known, indent=1, sort_keys=True) + "\n")


def recorded_measurements() -> dict[str, float]:
    """The recorded measurements, by name."""
    path = _kept("recorded") / "measurements.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def forget(profile: str) -> None:
    """Drop what chapters found at this profile (not the runs), so that a table of claims shows one execution."""
    shutil.rmtree(live_folder() / profile, ignore_errors=True)
