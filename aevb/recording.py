"""Computing an experiment for a page, recording it for good, and the models that come of it."""

import pandas as pd

from aevb import experiments, grid, results
from aevb.curves import Curves
from aevb.experiments import BOTH, Experiment, Member
from aevb.full_vb import FullVB
from aevb.model import VAE
from aevb.run import Run, evaluation_grid


def compute(name: str, profile: str, datasets: tuple[str, ...] = BOTH, *, seed: int = 0) -> Curves:
    """The curves of an experiment at `profile`, computed here and now or taken from what this machine computed before.

    The seeds of its runs are those from `seed` on. Raises ValueError for an unknown experiment, profile or dataset.
    """
    experiment = experiments.get(name)
    members = experiment.members(profile, datasets, seed=seed)
    _must_fit(experiment, members)
    table, entries = grid.run_grid([member.run for member in members], experiment.horizon(profile))
    curves = results.lay_out(name, table)
    results.write_live(name, profile, curves, entries)
    return curves


def record(
    name: str,
    profile: str = "standard",
    datasets: tuple[str, ...] = BOTH,
    samples: int | None = None,
    **options: object,
) -> None:
    """Run an experiment at `profile` and add it to `results/recorded/`, each run as soon as it is done.

    `samples` goes less far, or further, than the profile. What the record has as far already, or has as diverged, is
    not run. `options` are those of `grid.outcomes`. Raises ValueError for an experiment, a profile or a dataset that
    does not exist, for sizes of nothing, and, before anything is trained, where the runs lack a column of the table.
    """
    experiment = experiments.get(name)
    members = experiment.members(profile, datasets)
    _must_fit(experiment, members)
    samples, known = experiment.horizon(profile) if samples is None else samples, results.manifest(name)
    missing = [member for member in members if not _is_done(known.get(member.key), member.run, samples)]
    if not missing:
        return
    by_key = {member.key: member for member in missing}
    for outcome in grid.outcomes(missing, samples, progress=True, **options):
        _keep(experiment, by_key[outcome.key].run, outcome, str(options.get("device", "cpu")))


def _must_fit(experiment: Experiment, members: list[Member]) -> None:
    wanted = set(results.columns(experiment.kind))
    for member in members:
        if lacking := wanted - grid.columns(member):
            raise ValueError(f"{experiment.name} cannot be stored: {member.run} has no {', '.join(sorted(lacking))}")


def _is_done(entry: dict | None, run: Run, samples: int) -> bool:
    goal = evaluation_grid(samples, run.batch_size, run.measure)[-1]
    return entry is not None and (entry.get("diverged", False) or entry["samples"] >= goal)


def _keep(experiment: Experiment, run: Run, outcome: grid.Outcome, device: str) -> None:
    """Write what is kept of one run: its part of the table, its weights, its posterior."""
    key, rows, entry = outcome
    if experiment.measured:
        trainer = grid.trained(run, device)
        rows, entry = experiment.measured(trainer), entry | {"samples": trainer.samples}
    results.write_record(experiment.name, results.lay_out(experiment.name, pd.DataFrame(rows)), {key: entry})
    if experiment.keeps_weights:
        trainer = grid.trained(run, device)
        results.write_model(run, trainer.model, entry | {"samples": trainer.samples})
    if experiment.keeps_posterior:
        trainer = grid.trained(run, device)
        ends_there = trainer.samples == results.manifest(experiment.name)[key]["samples"]
        if isinstance(trainer.model, FullVB) and ends_there:
            results.write_posterior(key, trainer.model.mu, trainer.model.log_var)


def drawn_model(run: Run) -> tuple[VAE, str]:
    """The model of `run` to draw, and what to call it: the recorded one, else what this machine trained.

    Raises ValueError where there is neither.
    """
    if run.key in results.manifest("models"):
        return results.recorded_model(run), f"recorded, {results.manifest('models')[run.key]['samples']:,} samples"
    return live_model(run)


def live_model(run: Run) -> tuple[VAE, str]:
    """The model of `run` as this machine trained it last, as far as it went, and what to call it.

    Raises ValueError where it has not.
    """
    trainer = grid.trained(run)
    return trainer.model, f"live, {trainer.samples:,} samples"
