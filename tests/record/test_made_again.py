"""The beginnings of recorded curves, trained afresh."""

import pytest

from aevb.fit import fit
from aevb.reproduction import experiments, readings, results
from aevb.run import Run, evaluation_grid
from aevb.trainer import Trainer
from tests.runs import bounds


def test_a_fresh_run_meets_the_record_of_its_first_hundred_thousand_samples():
    """Within the range of the seeds of chapter 19."""
    run = readings.DIGITS
    kept = results.recorded("figure2-alike").select(run=run.key)
    fresh, (before, end) = Trainer(run, *run.step_sizes), evaluation_grid(100_000)[-2:]
    fresh.advance(before)
    fresh.reset_average()  # as a point does
    fresh.advance(end)
    fresh.add_point()
    seeds = results.recorded("readings").select(dataset="mnist", algorithm="aevb", answer=readings.BASELINE)
    for split in ("train", "test", "running"):
        values = seeds.select(split=split).at_each_seed(end)
        within = values.max() - values.min()
        assert len(values) > 2
        assert getattr(fresh.curve[-1], split) == pytest.approx(kept.select(split=split).mean()[end], abs=within)


@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep"])
def test_the_record_can_be_made_again(algorithm):
    """A run that a CPU made: a GPU has noise of its own."""
    entries, recorded = results.manifest("figure2"), results.recorded("figure2")
    made = [run for run in experiments.runs("figure2", "paper", ("mnist",)) if run.algorithm == algorithm]
    name = next(run.key for run in made if entries[run.key]["device"].startswith("cpu"))
    entry = entries[name]
    run = Run(**{**entry["config"], "step_sizes": tuple(entry["config"]["step_sizes"])})
    ours = bounds(recorded.select(run=name).table)
    curve = fit(run, 20_000).curve
    assert [point.samples for point in curve] == [10_000, 12_600, 15_800, 20_000]
    for point in curve:
        for split in ("train", "test", "running"):
            assert getattr(point, split) == pytest.approx(ours[name, split, point.samples], abs=0.5)
