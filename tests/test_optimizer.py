"""Adagrad's arithmetic at its edges; its updates are in `test_trainer`."""

import pytest
import torch

from aevb.optimizer import MapAdagrad, flushed_denormals

DENORMAL = 1e-40


def survives() -> bool:
    """Whether a denormal number comes out of a product as it went in."""
    return bool(torch.tensor(DENORMAL).mul(1).item())


@pytest.fixture(autouse=True)
def as_it_was():
    before = survives()
    yield
    torch.set_flush_denormal(not before)


@pytest.mark.parametrize("flushing", [False, True])
def test_denormals_are_flushed_meanwhile_and_then_as_before(flushing):
    if not torch.set_flush_denormal(flushing):
        pytest.skip("this processor cannot flush denormal numbers")
    for raised in (False, True):
        with pytest.raises(ZeroDivisionError) if raised else flushed_denormals():
            if raised:
                with flushed_denormals():
                    assert not survives()
                    raise ZeroDivisionError
            assert not survives()
        assert survives() != flushing


def test_an_update_leaves_no_denormal_square_behind():
    """As where a weight's gradient is the prior's alone, and nearly gone."""
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush denormal numbers")
    layer = torch.nn.Linear(8, 8)
    optimizer = MapAdagrad(layer, 0.0)
    optimizer.step([torch.full_like(parameter, DENORMAL**0.5) for parameter in optimizer.parameters], 0.01)
    for squares in optimizer.sum_squares:
        assert (squares == 0).all()
