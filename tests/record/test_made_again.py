"""The beginnings of recorded curves, trained afresh."""

import pytest

from aevb.fit import fit
from aevb.reproduction import experiments, provenance, readings, results
from aevb.run import Run, evaluation_grid
from aevb.trainer import Trainer
from tests.runs import bounds


def test_a_fresh_run_meets_the_record_of_its_first_hundred_thousand_samples():
    """Within 0.1 nat with the record's machine and versions; elsewhere within the range of the seeds of chapter 19."""
    run = readings.DIGITS
    about = results.manifest("figure2-alike")[run.key]
    kept = results.recorded("figure2-alike").select(run=run.key)
    fresh, (before, end) = Trainer(run, *run.step_sizes), evaluation_grid(100_000)[-2:]
    fresh.advance(before)
    fresh.reset_average()  # as a point does
    fresh.advance(end)
    fresh.add_point()
    here = provenance.here()
    alike = all(about[name] == here[name] for name in ("machine", "torch", "numpy"))
    seeds = results.recorded("readings").select(dataset="mnist", algorithm="aevb", answer=readings.BASELINE)
    for split in ("train", "test", "running"):
        values = seeds.select(split=split).at_each_seed(end)
        within = 0.1 if alike else values.max() - values.min()
        assert len(values) > 2
        assert getattr(fresh.curve[-1], split) == pytest.approx(kept.select(split=split).mean()[end], abs=within)


@pytest.mark.parametrize("algorithm", ["aevb", "wake-sleep"])
def test_the_record_can_be_made_again(algorithm):
    name = next(run.key for run in experiments.runs("figure2", "standard", ("mnist",)) if run.algorithm == algorithm)
    entry, recorded = results.manifest("figure2")[name], results.recorded("figure2")
    run = Run(**{**entry["config"], "step_sizes": tuple(entry["config"]["step_sizes"])})
    ours = bounds(recorded.select(run=name).table)
    curve = fit(run, 20_000).curve
    assert [point.samples for point in curve] == [10_000, 12_600, 15_800, 20_000]
    for point in curve:
        for split in ("train", "test", "running"):
            assert getattr(point, split) == pytest.approx(ours[name, split, point.samples], abs=0.5)
