"""Computing an experiment, for a page or for good."""

import contextlib
from typing import Unpack

import pandas as pd

from aevb.algorithms import ALGORITHMS
from aevb.fit import fit
from aevb.full_vb import FullVB
from aevb.model import VAE
from aevb.reproduction import experiments, grid, results
from aevb.reproduction.curves import Curves, concat
from aevb.reproduction.experiments import BOTH_DATASETS, Experiment, Member
from aevb.run import Run, evaluation_grid
from aevb.trainer import Trainer


def compute(name: str, profile: str, datasets: tuple[str, ...] = BOTH_DATASETS, *, seed: int = 0) -> Curves:
    """The curves of an experiment at `profile`, computed here and now or taken from what this machine computed before.

    `seed` is added to the seed of each run; a reading keeps its own. Raises ValueError for an unknown experiment,
    profile or dataset, and, before anything is trained, where the runs lack a column of the table.
    """
    experiment = experiments.get(name)
    members = experiment.members(profile, datasets, seed=seed)
    _must_fit(experiment, members)
    found = {outcome.key: outcome for outcome in grid.outcomes(members, experiment.horizon(profile))}
    shown = [_shown(experiment, member.run, found[member.key], "cpu") for member in members]
    curves = results.lay_out(name, pd.DataFrame([row for outcome in shown for row in outcome.rows]))
    results.write_live(name, profile, curves, {outcome.key: outcome.entry for outcome in shown})
    return curves


def record(
    name: str,
    profile: str = "standard",
    datasets: tuple[str, ...] = BOTH_DATASETS,
    samples: int | None = None,
    **options: Unpack[grid.Options],
) -> int:
    """Run an experiment at `profile` and add it to `results/recorded/`, each run as soon as it is done.

    Returns the number of runs that ran. `samples` replaces the profile's length. What has `places` is recorded to each
    of them in turn. A run is skipped where the record has it as far already, with all that is kept of it, or has it as
    diverged. `options` are those of `grid.outcomes`.

    Raises ValueError for an experiment, a profile or a dataset that does not exist, for what `grid.check` refuses, and,
    before anything is trained, where the runs lack a column of the table.
    """
    results.must_be_in_checkout("a record to add to")
    experiment = experiments.get(name)
    members = experiment.members(profile, datasets)
    _must_fit(experiment, members)
    samples = experiment.horizon(profile) if samples is None else samples
    grid.check(members, samples, options.get("jobs"), options.get("threads", 1), options.get("device", "cpu"))
    ends = [*(place for place in experiment.places if place < samples), samples]
    return max(_record_to(experiment, members, end, **options) for end in ends)


def _record_to(experiment: Experiment, members: list[Member], samples: int, **options: Unpack[grid.Options]) -> int:
    known = results.manifest(experiment.name)
    missing = {m.key: m for m in members if not _is_done(experiment, m.run, known.get(m.key), samples)}
    if not missing:
        return 0
    with contextlib.closing(grid.outcomes(list(missing.values()), samples, progress=True, **options)) as done:
        for outcome in done:
            _keep(experiment, missing[outcome.key].run, outcome, options.get("device", "cpu"))
    return len(missing)


def _must_fit(experiment: Experiment, members: list[Member]) -> None:
    if experiment.measured:  # which chooses the columns of its rows
        return
    wanted = set(results.table_columns(experiment.kind))
    for member in members:
        if lacking := wanted - grid.columns(member):
            raise ValueError(f"{experiment.name} cannot be stored: {member.run} has no {', '.join(sorted(lacking))}")


def _is_done(experiment: Experiment, run: Run, entry: dict | None, samples: int) -> bool:
    goal = evaluation_grid(samples, run.batch_size, run.measure)[-1]
    if entry is None or not (entry.get("diverged", False) or entry["samples"] >= goal):
        return False
    if experiment.keeps_weights and not _has_weights(run, min(goal, entry["samples"])):
        return False
    return not _has_posterior(experiment, run) or results.posterior_path(run.key).exists()


def _has_weights(run: Run, samples: int) -> bool:
    """True where the weights of `run` are recorded, at `samples` or further."""
    known = results.manifest("models").get(run.key, {}).get("samples", 0)
    return known >= samples and results.model_path(run).exists()


def _has_posterior(experiment: Experiment, run: Run) -> bool:
    return experiment.keeps_posterior and ALGORITHMS[run.algorithm].evidence is not None


def _shown(experiment: Experiment, run: Run, outcome: grid.Outcome, device: str) -> grid.Outcome:
    """The outcome as the table shows it: its curve, or the measurements at the end of that, or at one of its places."""
    if not experiment.measured:
        return outcome
    trainer = grid.trained(run, device)
    if experiment.places and trainer.samples > outcome.entry["samples"]:  # an earlier record went past the place
        trainer = fit(run, outcome.entry["samples"], device=device)
    return outcome._replace(rows=experiment.measured(trainer), entry=outcome.entry | {"samples": trainer.samples})


def _keep(experiment: Experiment, run: Run, outcome: grid.Outcome, device: str) -> None:
    """Write one run to the record: its weights, its posterior and, last, its part of the table.

    What the table has is not run again, so it must have all that is kept of it, wherever the process was killed.
    """
    key, rows, entry = _shown(experiment, run, outcome, device)
    if experiment.keeps_weights:
        trainer = grid.trained(run, device)
        results.write_model(run, _vae(trainer), entry | {"samples": trainer.samples})
    if _has_posterior(experiment, run):
        trainer = grid.trained(run, device)
        known = results.manifest(experiment.name).get(key, {}).get("samples", 0)
        at_its_end = trainer.samples == max(known, entry["samples"])
        if at_its_end and isinstance(trainer.model, FullVB):
            results.write_posterior(key, trainer.model.mu, trainer.model.log_var)
    table = results.lay_out(experiment.name, pd.DataFrame(rows))
    if experiment.places:  # what was measured on the way stays
        earlier = results.recorded(experiment.name).select(entry["samples"] - 1, run=key)
        table = concat([earlier, table]) if len(earlier) else table
    results.write_record(experiment.name, table, {key: entry})


def drawn_model(run: Run) -> tuple[VAE, str]:
    """The model of `run` to draw and a name for it: the recorded one, else the one that this machine trained.

    Raises ValueError where there is neither, and for an algorithm that trains no VAE.
    """
    if run.key in results.manifest("models"):
        return results.recorded_model(run), f"recorded, {results.manifest('models')[run.key]['samples']:,} samples"
    return live_model(run)


def live_model(run: Run) -> tuple[VAE, str]:
    """The model of `run` as far as this machine has trained it, and a name for it.

    Raises ValueError where it has not, and for an algorithm that trains no VAE.
    """
    trainer = grid.trained(run)
    return _vae(trainer), f"live, {trainer.samples:,} samples"


def _vae(trainer: Trainer) -> VAE:
    if not isinstance(trainer.model, VAE):
        raise ValueError(f"{trainer.run} trains a {type(trainer.model).__name__} and no VAE")
    return trainer.model
