"""Refusals: data outside a likelihood's domain, whichever door they come through, and sizes of zero."""

import copy
import io
import math

import pytest
import torch

from aevb import aggregated, bounds, checks, full_vb, gaps, hmc, mcem, objectives
from aevb import marginal_likelihood as ml
from aevb.model import Decoder, LinearGaussian, bernoulli_vae, gaussian_vae, stack
from aevb.priors import MixturePrior

# every function with a likelihood behind it: (model, x, generator)
DOORS = {
    "log_likelihood": lambda m, x, g: m.log_likelihood(x, torch.zeros(1, len(x), 2)),
    "log_likelihood_table": lambda m, x, g: m.log_likelihood_table(x, torch.zeros(3, 2)),
    "aevb": lambda m, x, g: objectives.aevb(m, x, generator=g),
    "wake-sleep": lambda m, x, g: objectives.wake_sleep(m, x, generator=g),
    "score-function": lambda m, x, g: objectives.score_function(m, x, generator=g),
    "estimator_a": lambda m, x, g: bounds.estimator_a(m, x, generator=g),
    "estimator_b": lambda m, x, g: bounds.estimator_b(m, x, generator=g),
    "importance_weighted": lambda m, x, g: bounds.importance_weighted(m, x, 3, generator=g),
    "full_vb": lambda m, x, g: full_vb.full_vb(full_vb.FullVB(m, 10), x, generator=g),
    "held_out_bound": lambda m, x, g: full_vb.held_out_bound(full_vb.FullVB(m, 10), x, 1, generator=g),
    "hmc.posterior": lambda m, x, g: hmc.posterior(m, x)(torch.zeros(1, len(x), 2)),
    "hmc.start": lambda m, x, g: hmc.start(m, x, 2, generator=g),
    "mcem": lambda m, x, g: mcem.Chains(10, 2, generator=g).move(m, x, torch.arange(len(x)), generator=g),
    "m_step": lambda m, x, g: mcem.m_step(m, x, torch.zeros(1, len(x), 2)),
    "appendix_d": lambda m, x, g: ml.appendix_d(m, x, generator=g),
    "quadrature": lambda m, x, g: ml.quadrature(m, x, points=11),
    "gaps.split": lambda m, x, g: gaps.split(m, x),
    "many importance samples": lambda m, x, g: ml.importance_weighted(m, x, generator=g, n_samples=10),
    "annealed_importance": lambda m, x, g: ml.annealed_importance(m, x, generator=g, n_temperatures=3),
}
ALL_DOORS = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


@pytest.fixture
def grey(generator):
    """Ten datapoints of seven grey levels, black and white among them."""
    x = torch.rand(10, 7, generator=generator)
    x[0, 0], x[0, 1] = 0.0, 1.0
    return x


@pytest.fixture
def digits(generator):
    return bernoulli_vae(7, 6, 2, generator=generator)


@ALL_DOORS
@pytest.mark.parametrize(
    ("scaled", "found"),
    [
        (lambda x: (255 * x).to(torch.uint8), "from 0 to 255"),
        (lambda x: 2 * x - 1, r"from -1\.0 to 1\.0"),
        (lambda x: (x - 0.1307) / 0.3081, r"from -0\.42421\d* to 2\.82148\d*"),
        (lambda x: x.double() * (1 + 2**-52), r"from 0\.0 to 1\.0000000000000002"),
    ],
)
def test_bernoulli_data_outside_the_unit_interval_are_refused(generator, digits, grey, door, scaled, found):
    with pytest.raises(ValueError, match=rf"^data {found}, but .* in \[0, 1\]: divide by the largest grey$"):
        door(digits, scaled(grey), generator)


@ALL_DOORS
@pytest.mark.parametrize("build", [bernoulli_vae, gaussian_vae])
def test_data_that_are_not_a_number_are_refused_and_named(generator, grey, door, build):
    grey[[3, 8], 5] = torch.nan
    with pytest.raises(ValueError, match=r"not a number for datapoints 3, 8$"):
        door(build(7, 6, 2, generator=generator), grey, generator)


@ALL_DOORS
def test_an_infinite_value_is_in_no_domain(generator, grey, door):
    grey[3, 5] = torch.inf
    with pytest.raises(ValueError, match=r"^data from 0\.0 to inf, but the Gaussian likelihood"):
        door(gaussian_vae(7, 6, 2, generator=generator), grey, generator)


@ALL_DOORS
def test_no_datapoints_are_one_clear_line(generator, digits, grey, door):
    with pytest.raises(ValueError, match=r"^datapoints must be 1 or more, not 0$"):
        door(digits, grey[:0], generator)


@ALL_DOORS
def test_a_datapoint_without_its_axis_is_refused(generator, digits, grey, door):
    with pytest.raises(ValueError, match=r"^data of shape \(7,\) are not rows of values: one datapoint is x\[None\]$"):
        door(digits, grey[0], generator)


@ALL_DOORS
def test_rows_of_another_width_are_refused(generator, digits, grey, door):
    with pytest.raises(ValueError, match=r"^data of shape \(.*5\) are not rows of 7 values, as this model has them$"):
        door(digits, grey[:, :5], generator)


@pytest.mark.parametrize("width", [1, 3])
def test_latents_of_another_width_are_refused(generator, digits, grey, width):
    z = torch.zeros(4, 10, width)
    calls = [
        lambda: digits.log_prior(z),
        lambda: digits.log_posterior(z, grey),
        lambda: digits.log_likelihood(grey, z),
        lambda: digits.log_likelihood_table(grey, z[:, 0]),
        lambda: MixturePrior(digits, 3, generator=generator).log_prior(z),
        lambda: aggregated.log_aggregated(digits, grey, z[0]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=rf"^latents of shape .*{width}\) are not rows of 2 values"):
            call()


@ALL_DOORS
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bool, torch.uint8, torch.int64])
def test_zeros_and_ones_of_any_type_are_data(generator, digits, grey, door, kind):
    door(digits, grey.round().to(kind), generator)


def test_a_gaussian_is_of_all_real_numbers_even_with_means_in_the_unit_interval(generator, grey):
    """A draw around a mean in (0, 1) may lie outside it: a model's own dreams are data."""
    faces = gaussian_vae(7, 6, 2, generator=generator)
    x, z = faces.sample_joint(100, generator=generator)
    assert x.min() < 0 and x.max() > 1
    assert torch.isfinite(faces.log_joint(x, z[None])).all()


def test_an_ensemble_checks_its_data_too(generator, digits, grey):
    pair = stack([digits, bernoulli_vae(7, 6, 2, generator=generator)])
    with pytest.raises(ValueError, match=r"from 0\.0 to 255\.0"):
        objectives.aevb(pair, torch.stack([grey, 255 * grey]), generator=[generator, generator])


def test_data_are_looked_at_once_until_they_change(digits, grey, monkeypatch):
    looks, aminmax = [], torch.aminmax
    monkeypatch.setattr(torch, "aminmax", lambda x: looks.append(x) or aminmax(x))
    z = torch.zeros(1, 10, 2)
    for _ in range(3):
        digits.log_likelihood(grey, z)
    assert len(looks) == 1
    grey[4, 4] = 0.5
    digits.log_likelihood(grey, z)
    assert len(looks) == 2
    grey.mul_(255)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"from 0\.0 to 255\.0"):
            digits.log_likelihood(grey, z)
    with torch.inference_mode():  # whose tensors do not count their changes
        other = grey.clone()
        for _ in range(2):
            with pytest.raises(ValueError, match=r"from 0\.0 to 255\.0"):
                digits.log_likelihood(other, z)


def saved(x):
    file = io.BytesIO()
    torch.save(x, file)
    file.seek(0)
    return torch.load(file)


def assigned(x):
    x.data = x.data.clone()
    return x


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, saved, assigned])
def test_a_copy_is_looked_at_anew(digits, grey, copied):
    z = torch.zeros(1, 10, 2)
    digits.log_likelihood(grey, z)
    with pytest.raises(ValueError, match=r"from 0\.0 to 255\.0"):
        digits.log_likelihood(copied(grey).mul_(255), z)
    other = torch.rand(10, 7)
    digits.log_likelihood(other, z)
    other.data = 255 * grey
    with pytest.raises(ValueError, match=r"from 0\.0 to \d"):
        digits.log_likelihood(other, z)


def test_a_tensor_vouched_for_for_one_domain_is_judged_by_another(digits, grey):
    x = checks.vouch(255 * grey, 0.0, 255.0)
    LinearGaussian(torch.ones(7, 2), torch.zeros(7), 1.0).log_likelihood(x, torch.zeros(1, 10, 2))
    with pytest.raises(ValueError, match=r"from 0\.0 to 255\.0"):
        digits.log_likelihood(x, torch.zeros(1, 10, 2))


SIZES = {
    "n_samples": (
        lambda m, x, g, n: bounds.estimator_a(m, x, n, generator=g),
        lambda m, x, g, n: bounds.estimator_b(m, x, n, generator=g),
        lambda m, x, g, n: bounds.importance_weighted(m, x, n, generator=g),
        lambda m, x, g, n: m.sample_posterior(x, n, generator=g),
        lambda m, x, g, n: ml.importance_weighted(m, x, generator=g, n_samples=n),
        lambda m, x, g, n: ml.appendix_d(m, x, generator=g, n_samples=n),
    ),
    "n_chains": (
        lambda m, x, g, n: hmc.start(m, x, n, generator=g),
        lambda m, x, g, n: ml.appendix_d(m, x, generator=g, n_chains=n),
        lambda m, x, g, n: ml.annealed_importance(m, x, generator=g, n_chains=n),
    ),
    "n_leapfrog": (
        lambda m, x, g, n: ml.appendix_d(m, x, generator=g, n_leapfrog=n),
        lambda m, x, g, n: ml.annealed_importance(m, x, generator=g, n_leapfrog=n),
        lambda m, x, g, n: hmc.step(hmc.posterior(m, x), state(m, x), 0.1, n, generator=g),
    ),
    "n_draws": (
        lambda m, x, g, n: full_vb.held_out_bound(full_vb.FullVB(m, 10), x, n, generator=g),
        lambda m, x, g, n: full_vb.evidence_bound(full_vb.FullVB(m, 10), x, n, generator=g),
        lambda m, x, g, n: hmc.sample(hmc.posterior(m, x), state(m, x), 0.1, 1, n, generator=g),
    ),
    "n_steps": (lambda m, x, g, n: hmc.tune(hmc.posterior(m, x), state(m, x), 1, n, generator=g),),
    "n_temperatures": (lambda m, x, g, n: ml.annealed_importance(m, x, generator=g, n_temperatures=n),),
    "points": (lambda m, x, g, n: ml.quadrature(m, x, points=n),),
    "n_train": (lambda m, x, g, n: full_vb.FullVB(m, n),),
    "n": (lambda m, x, g, n: m.sample_joint(n, generator=g), lambda m, x, g, n: mcem.Chains(n, 2, generator=g)),
    "n_in": (lambda m, x, g, n: bernoulli_vae(4, 5, n, generator=g),),
    "n_out": (lambda m, x, g, n: bernoulli_vae(4, n, 2, generator=g),),
}


def state(model, x):
    return hmc.init(hmc.posterior(model, x), torch.zeros(2, len(x), 2))


@pytest.mark.parametrize("size", [0, -1])
@pytest.mark.parametrize(
    ("name", "call"), [pytest.param(name, call, id=name) for name, calls in SIZES.items() for call in calls]
)
def test_sizes_of_nothing_are_one_clear_line(generator, digits, grey, name, call, size):
    with pytest.raises(ValueError, match=rf"^{name} must be [12] or more, not {size}$"):
        call(digits, grey, generator, size)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("n_chains", SIZES["n_chains"][1]),
        ("n_chains", SIZES["n_chains"][2]),
        ("n_samples", SIZES["n_samples"][4]),
        ("chains_of_z", lambda m, x, g, n: ml.annealed_importance(m, x, generator=g, z=torch.zeros(n, len(x), 2))),
    ],
)
def test_one_draw_has_no_standard_error(generator, digits, grey, name, call):
    with pytest.raises(ValueError, match=rf"^{name} must be 2 or more, not 1$"):
        call(digits, grey, generator, 1)


def test_as_many_chains_as_samples_are_one_draw_each(generator, digits, grey):
    estimate = ml.appendix_d(digits, grey, generator=generator, n_samples=20, n_chains=20)
    assert torch.isfinite(torch.stack(estimate)).all()


def test_a_model_without_recognition_model_is_checked_too(generator, digits, grey):
    decoder = Decoder(digits.decoder)
    for door in ("appendix_d", "quadrature", "annealed_importance", "mcem"):
        with pytest.raises(ValueError, match=r"from 0\.0 to 255\.0"):
            DOORS[door](decoder, 255 * grey, generator)


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_a_price_is_finite_and_not_negative(value):
    checks.not_negative(none=0.0, one=1.0)
    with pytest.raises(ValueError, match=f"^weight must be finite and not negative, not {value}$"):
        checks.not_negative(one=1.0, weight=value)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_a_scale_is_finite_and_above_zero(value):
    checks.above_zero(one=1.0, tiny=5e-324)
    with pytest.raises(ValueError, match=f"^width must be finite and above 0, not {value}$"):
        checks.above_zero(one=1.0, width=value)
