"""The runs of each figure at the settings of section 5."""

import dataclasses
from typing import Any, NamedTuple

from aevb.algorithms import ALGORITHMS
from aevb.datasets import DATASETS
from aevb.run import Run

# figure 2's step size: of section 5's candidates, the one nearest to MNIST's published curves after 10^6 samples
# (see its chapter)
FIGURE2_STEP_SIZE = 0.02
# figure 3's step sizes by training points: of section 5's candidates, those that meet the published curves (see its
# chapter); section 5's rule chooses AEVB's on 50,000 points too, and on 1,000 wavers between 0.02 and 0.1
FIGURE3_STEP_SIZES = {
    1000: {"aevb": 0.1, "wake-sleep": 0.1, "mcem": 0.02},
    50_000: {"aevb": 0.02, "wake-sleep": 0.1, "mcem": 0.02},
}
FIGURE3_N_TRAIN = tuple(FIGURE3_STEP_SIZES)  # the training points of its panels
# full VB's step size, also MAP's best on this network: of those tried, the best bound on log p(X) (see its chapter)
FULL_VB_STEP_SIZE = 0.1
# the standard deviations with which q(theta) starts, by training points: chosen likewise
FULL_VB_SIGMAS = {1000: 0.03, 50_000: 0.01}
FIGURE3_NATS = 3.0  # within which a published point of figure 3 is met
MINIBATCHES = (100, 200, 300, 400, 500)  # the sizes of "figure2-minibatches"
WEIGHTED = ("iwae-5", "dreg-5", "iwae-50", "dreg-50")  # the importance-weighted algorithms of Part V
# the algorithms of Part V whose q goes through a flow, after what has their estimator and no flow
FLOWS = ("estimator-a", "planar-1", "planar-4", "planar-16", "iaf-1", "iaf-4")
# those that bend the objective or learn the prior, beside AEVB
BENT = ("aevb", "mixture", "vamp", "beta-4", "beta-0.5", "free-bits", "annealed")
FIGURE5_LATENT_DIMS = (2, 5, 10, 20)  # the numbers of latents of its panels
PAGE_N_TRAIN = 10_000  # the training digits that a page carries for its readers to train on
PAGE_LATENT_DIMS = FIGURE5_LATENT_DIMS  # what a reader can choose there
PAGE_HIDDEN = (100, 500)
MORE_SEEDS = range(3, 8)  # beside the three of "paper", for the spread of seeds where a live run ends

Datasets = tuple[str, ...]  # names of datasets


class Figure2(NamedTuple):
    """The part of figure 2 that shows one dataset.

    `warm_up` is that of both algorithms where they are trained alike; `apart` has each one's own changes. `limits`
    are those of the bound in the paper's panels. A published point is met within `nats` and a `share` of its value.
    """

    warm_up: int
    apart: dict[str, dict[str, Any]]
    limits: tuple[float, float]
    nats: float = 0.0
    share: float = 0.0


# The author's library warmed up for 10 steps in 2013 and for 100 in 2014: each dataset has the one that meets the
# published curves. What is apart is, of the readings tried, the nearest to the algorithm's published curves (see "What
# the paper does not say"). On the faces wake-sleep has what the paper writes: a prior on theta alone, and no warm-up.
# Expected of it before it ran, but for three seeds with 20 latents seen to 2, 8 and 10 million samples: the first steps
# saturate the encoder's units several times more than after a warm-up of 10 steps, with which a run leaves its plateau
# after 4 to 10 million samples. So it stays several times longer, to the end with 2 and 5 latents, perhaps with 10, 20.
FIGURE2 = {
    "mnist": Figure2(
        warm_up=100,
        apart={"aevb": {"warm_up": 10}, "wake-sleep": {"slow_log_var": True}},
        limits=(-150.0, -100.0),
        nats=2.0,
    ),
    "frey": Figure2(
        warm_up=10,
        apart={"aevb": {"batch_size": 300, "warm_up": 100}, "wake-sleep": {"prior_on_encoder": False, "warm_up": 0}},
        limits=(0.0, 1600.0),
        share=0.03,
    ),
}
LATENT_DIMS = {name: DATASETS[name].latent_dims for name in FIGURE2}  # those of figure 2, by dataset
RIVALS = ("aevb", "wake-sleep")  # the algorithms that the paper compares in figure 2
# the algorithms that we compare in figure 2
COMPARED = tuple(algorithm.name for algorithm in ALGORITHMS.values() if algorithm.compared)


def baseline(n_seeds: int, datasets: Datasets, algorithms: tuple[str, ...] = COMPARED) -> list[Run]:
    """The runs of `figure2` with its algorithms trained alike: the baseline that other readings are compared with."""
    return [
        _section_5(dataset, algorithm, latent_dim, seed)
        for dataset in datasets
        for seed in range(n_seeds)
        for latent_dim in LATENT_DIMS[dataset]
        for algorithm in algorithms
    ]


def figure2(n_seeds: int, datasets: Datasets) -> list[Run]:
    """The compared algorithms in every panel, each in its own reading of what the paper leaves open."""
    return [_apart(run) for run in baseline(n_seeds, datasets)]


def figure2_step_sizes(n_seeds: int, datasets: Datasets) -> list[Run]:
    """The runs of `baseline` at the two smaller candidates, for the largest diverges on MNIST."""
    return _at_step_sizes(baseline(n_seeds, datasets), Run.step_sizes[:2])


def figure2_minibatches(n_seeds: int, datasets: Datasets) -> list[Run]:
    """The runs of `baseline` with MNIST's warm-up and larger minibatches than the paper's 100."""
    return [
        dataclasses.replace(run, warm_up=FIGURE2["mnist"].warm_up, batch_size=batch_size)
        for batch_size in MINIBATCHES
        for run in baseline(n_seeds, datasets)
    ]


def figure2_seeds(_: int, datasets: Datasets) -> list[Run]:
    """The runs of `figure2` with MORE_SEEDS, by which a live run is judged, whatever the number of seeds."""
    return _with_more_seeds(figure2(1, datasets))


def figure3(n_seeds: int, _: Datasets) -> list[Run]:
    """AEVB, wake-sleep and MCEM on 1,000 and on 50,000 digits.

    100 hidden units, 3 latents, measured by the marginal likelihood (section 5).
    """
    return [
        Run("mnist", algorithm, 3, 100, seed, n_train, step_sizes=(step_size,), measure="marginal-likelihood")
        for seed in range(n_seeds)
        for n_train, step_sizes in FIGURE3_STEP_SIZES.items()
        for algorithm, step_size in step_sizes.items()
    ]


def figure3_step_sizes(n_seeds: int, datasets: Datasets) -> list[Run]:
    """The runs of `figure3` at every candidate step size."""
    return _at_step_sizes(figure3(n_seeds, datasets), Run.step_sizes)


def figure3_seeds(_: int, datasets: Datasets) -> list[Run]:
    """The runs of `figure3` with MORE_SEEDS, by which a live run is judged, whatever the number of seeds."""
    return _with_more_seeds(figure3(1, datasets))


def figure4(_: int, datasets: Datasets) -> list[Run]:
    """AEVB with two latents on each dataset, otherwise as in figure 2; a picture has one seed."""
    return [_apart(_section_5(dataset, "aevb", 2)) for dataset in datasets]


def figure5(_: int, datasets: Datasets) -> list[Run]:
    """AEVB on MNIST with 2, 5, 10 and 20 latents, otherwise as in figure 2; a picture has one seed."""
    return [_apart(_section_5("mnist", "aevb", latent_dim)) for latent_dim in FIGURE5_LATENT_DIMS]


def ten_thousand_digits(_: int, datasets: Datasets) -> list[Run]:
    """The runs that a reader can train in the page: figure 2's on fewer digits, with MORE_SEEDS to judge them by."""
    return _with_more_seeds(
        [
            dataclasses.replace(_apart(_section_5(dataset, algorithm, latent_dim)), hidden=hidden, n_train=PAGE_N_TRAIN)
            for dataset in datasets
            for algorithm in RIVALS
            for hidden in PAGE_HIDDEN
            for latent_dim in PAGE_LATENT_DIMS
        ]
    )


def full_vb(n_seeds: int, _: Datasets) -> list[Run]:
    """Full VB against MAP on 1,000 and on 50,000 digits, the decoder of figure 3: Appendix F has no such experiment."""
    return [
        run
        for seed in range(n_seeds)
        for n_train in FULL_VB_SIGMAS
        for run in (
            Run("mnist", "aevb", 3, 100, seed, n_train, step_sizes=(FULL_VB_STEP_SIZE,)),
            _full_vb(n_train, seed),
        )
    ]


def full_vb_settings(n_seeds: int, datasets: Datasets) -> list[Run]:
    """The full VB runs of `full_vb` at the two larger step sizes of section 5, from three widths of q(theta)."""
    wide = [
        dataclasses.replace(_full_vb(n_train, seed), initial_sigma=sigma)
        for seed in range(n_seeds)
        for n_train in FULL_VB_SIGMAS
        for sigma in (0.01, 0.03, 0.1)
    ]
    return _at_step_sizes(wide, Run.step_sizes[1:])


def after_gaps(n_seeds: int, _: Datasets) -> list[Run]:
    """AEVB on 1,000 and on 50,000 digits as in `figure3`, to be measured by the two gaps on the way.

    Expected before it was run (but for one seed on 1,000 digits, seen at 10^6 samples): the encoder costs more than the
    family everywhere. On the digits that it was trained on its cost falls as training goes on; on test digits it falls
    with 50,000 and rises with 1,000, where the encoder overfits before anything else does. The family's cost stays well
    under a nat and grows slowly, as posteriors become more curved.
    """
    return [_weighted("aevb", n_train, seed) for seed in range(n_seeds) for n_train in FIGURE3_N_TRAIN]


def after_importance(n_seeds: int, _: Datasets) -> list[Run]:
    """The importance-weighted objectives in the place of AEVB's in `after_gaps`, at its step sizes.

    Expected before it was run: at equally many samples, hence updates, a larger k gives a larger log p(x) on test
    digits, by less than a nat on 50,000 digits. The bound of eq. 2 falls behind AEVB's as k grows, for q need no
    longer be near the posterior, only cover it. Doubly reparameterized, q ends nearer: a smaller amortization gap at
    k = 50 than the naive gradient's, and a log p(x) that is no worse.
    """
    return [
        _weighted(algorithm, n_train, seed)
        for seed in range(n_seeds)
        for algorithm in WEIGHTED
        for n_train in FIGURE3_N_TRAIN
    ]


def after_flows(n_seeds: int, _: Datasets) -> list[Run]:
    """A flow between the noise and z, by estimator A, in the place of AEVB's q in `after_gaps`, at its step sizes.

    Expected before it was run (but for seed 0 of "planar-4" and "iaf-4" on 50,000 digits, seen at 10^5 samples): the
    family gap closes with the number of steps, to a tenth of AEVB's nat after 10^5 samples on 50,000 digits. The bound
    gains less than that, for the encoder must find the numbers of the flow too, and its gap grows. After 10^6, where
    the family of diagonal Gaussians costs 0.2 nats, and on 1,000 digits, where the encoder costs ten, a flow gains
    nothing that the seeds do not cover; nor does log p(x) anywhere. Sixteen planar steps are no better than four in
    three latents. By estimator A without a flow all is as with AEVB's estimator B.
    """
    return [
        _weighted(algorithm, n_train, seed)
        for seed in range(n_seeds)
        for n_train in reversed(FIGURE3_N_TRAIN)
        for algorithm in FLOWS
    ]


def after_priors(n_seeds: int, _: Datasets) -> list[Run]:
    """Learned priors and bent objectives in the place of AEVB's in `after_gaps`, at its step sizes, and AEVB itself.

    Expected before it was run (but for one seed at 10^5 samples, seen while the settings were chosen): under a learned
    prior the divergence of the aggregated posterior from it falls to less than half of AEVB's, and lowest for the
    VampPrior. On 50,000 digits after 10^6 samples the bound and log p(x) gain about as many nats, the VampPrior more
    than the mixture; on 1,000 digits the VampPrior loses, for it overfits with the encoder. With beta = 4 the rate, the
    information and the amortization gap are the smallest of all, and so is log p(x); with beta = 0.5 the rate is the
    largest, and neither the bound nor log p(x) is better than AEVB's. Free bits and annealing help after 10^5 samples,
    if at all; after 10^6 they are within the seeds of AEVB, since of three latents none is superfluous.
    """
    return [
        _weighted(algorithm, n_train, seed)
        for seed in range(n_seeds)
        for algorithm in BENT
        for n_train in FIGURE3_N_TRAIN
    ]


def _weighted(algorithm: str, n_train: int, seed: int) -> Run:
    step_size = FIGURE3_STEP_SIZES[n_train][RIVALS[0]]
    return Run("mnist", algorithm, 3, 100, seed, n_train, step_sizes=(step_size,))


def _full_vb(n_train: int, seed: int) -> Run:
    sigma = FULL_VB_SIGMAS[n_train]
    return Run("mnist", "full-vb", 3, 100, seed, n_train, step_sizes=(FULL_VB_STEP_SIZE,), initial_sigma=sigma)


def _section_5(dataset: str, algorithm: str, latent_dim: int, seed: int = 0) -> Run:
    """A run at the settings of `baseline`."""
    hidden, warm_up = DATASETS[dataset].hidden, FIGURE2[dataset].warm_up
    return Run(dataset, algorithm, latent_dim, hidden, seed, warm_up=warm_up, step_sizes=(FIGURE2_STEP_SIZE,))


def _apart(run: Run) -> Run:
    """`run`, which is at the settings of `baseline`, at those of `figure2`."""
    return dataclasses.replace(run, **FIGURE2[run.dataset].apart.get(run.algorithm, {}))


def _at_step_sizes(runs: list[Run], step_sizes: tuple[float, ...]) -> list[Run]:
    return [dataclasses.replace(run, step_sizes=(step_size,)) for run in runs for step_size in step_sizes]


def _with_more_seeds(runs: list[Run]) -> list[Run]:
    return [dataclasses.replace(run, seed=seed) for seed in MORE_SEEDS for run in runs]
