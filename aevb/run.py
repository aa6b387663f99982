"""A run is a value: a frozen `Run` says all that decides its numbers, except how far to go.

Going further continues the same run, so a short curve is the beginning of the long one.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real

from aevb.algorithms import ALGORITHMS
from aevb.checks import above_zero, at_least
from aevb.measures import MEASURES
from aevb.networks import INITIAL_STD

# later fields at the values that older runs imply: left out of a run's key
IMPLIED = {"measure": "bound", "initial_sigma": INITIAL_STD, "slow_log_var": False, "prior_on_encoder": True}
SIZES = ("latent_dim", "hidden", "seed", "n_train", "batch_size", "warm_up")  # the fields that are whole numbers
# up to so many latents, a product costs a GPU the same whatever their number
PADDED = 20


@dataclass(frozen=True)
class Run:
    """All that decides the numbers of a run, except its length.

    `step_sizes` are the candidates for Adagrad's global step size; `n_train` takes the first training
    points only. `hidden` is the width of the one hidden layer of encoder and decoder. For the first
    `warm_up` steps Adagrad accumulates squared gradients and nothing moves: the author's library does
    so, the paper does not say it. `measure` is what the curve shows: the "bound" of figure 2, or the
    "marginal-likelihood" of figure 3. MCEM has the latter alone; full VB, which has no one theta, the former alone.
    `initial_sigma` are the standard deviations with which full VB's q(theta) starts; others have none. With
    `slow_log_var` the encoder's log-variances start at zero and move a tenth as far (`networks.SlowAffine`). Without
    `prior_on_encoder` the weight prior covers the decoder alone, theta, and not phi.

    Numbers are kept as Python's own, so that runs that are equal have one key. Raises ValueError for an algorithm or a
    measure that does not exist or does not fit, for sizes that are zero or no whole numbers, where there is no step
    size, and for a step size or an `initial_sigma` that is not finite and above zero.
    """

    dataset: str
    algorithm: str
    latent_dim: int
    hidden: int
    seed: int = 0
    n_train: int | None = None
    batch_size: int = 100
    warm_up: int = 100
    step_sizes: tuple[float, ...] = (0.01, 0.02, 0.1)
    measure: str = "bound"
    initial_sigma: float = INITIAL_STD
    slow_log_var: bool = False
    prior_on_encoder: bool = True

    def __post_init__(self) -> None:
        self._normalise()
        n_train = 1 if self.n_train is None else self.n_train
        at_least(1, latent_dim=self.latent_dim, hidden=self.hidden, batch_size=self.batch_size, n_train=n_train)
        at_least(1, step_sizes=len(self.step_sizes))
        at_least(0, warm_up=self.warm_up)
        above_zero(initial_sigma=self.initial_sigma)
        for step_size in self.step_sizes:
            above_zero(step_sizes=step_size)
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"unknown algorithm {self.algorithm!r}: choose one of {', '.join(ALGORITHMS)}")
        _refuse_measure(self.measure)
        algorithm = ALGORITHMS[self.algorithm]
        if self.measure not in algorithm.measures:
            raise ValueError(f"{self.algorithm} {algorithm.lacks}: measure='{', '.join(algorithm.measures)}'")

    def _normalise(self) -> None:
        """Turn the numbers into Python's own: 1 and 1.0 are equal, and would be written differently in the key."""
        own: dict[str, object] = {name: _whole(name, getattr(self, name)) for name in SIZES}
        own |= {name: bool(getattr(self, name)) for name in ("slow_log_var", "prior_on_encoder")}
        if not isinstance(self.step_sizes, Iterable):
            raise ValueError(f"step_sizes are several, such as ({self.step_sizes},), not {self.step_sizes}")
        own |= {"step_sizes": tuple(map(float, self.step_sizes)), "initial_sigma": float(self.initial_sigma)}
        for name, value in own.items():
            object.__setattr__(self, name, value)  # the run is frozen

    @property
    def key(self) -> str:
        """A stable hash of the configuration, by which its results are kept."""
        fields = [item for item in dataclasses.asdict(self).items() if item not in IMPLIED.items()]
        text = json.dumps(dict(fields), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def configuration(self) -> "Run":
        """What runs that can train as an ensemble have in common: all but seed, step sizes and, padded, few latents."""
        padded = ALGORITHMS[self.algorithm].pads and self.latent_dim <= PADDED
        latent_dim = PADDED if padded else self.latent_dim
        return dataclasses.replace(self, seed=0, step_sizes=Run.step_sizes, latent_dim=latent_dim)


def _refuse_measure(measure: str) -> None:
    if measure not in MEASURES:
        raise ValueError(f"unknown measure {measure!r}: choose one of {', '.join(MEASURES)}")


def _whole(name: str, size: float | None) -> int | None:
    if size is None:
        return None
    if not isinstance(size, Real) or size % 1 != 0:  # so is what NaN and infinity leave
        raise ValueError(f"{name} must be a whole number, not {size}")
    return int(size)


@dataclass(frozen=True)
class Point:
    """The run's measure at one place of its curve, in nats per datapoint.

    `train` and `test` are evaluated at the parameters, `train` on as many of the first training points as test
    points: the bound with one sample per datapoint, or log p(x) by Appendix D. `running` is the average of the
    bounds seen in training since the last point (for MCEM of log p(x, z)): it lags behind, and is what the
    train curves of the paper's figure 2 seem to show.

    For full VB every bound is at one draw of theta ~ q(theta), and the whole training set gives two more values:
    `evidence`, the bound on log p(X) / N of eq. 24, and `data`, its data term over all N training
    points. KL(q(theta)||p(theta)) / N is `data - evidence`.
    """

    samples: int
    train: float
    test: float
    running: float
    data: float | None = None
    evidence: float | None = None


def evaluation_grid(samples: int, batch_size: int = 100, measure: str = "bound") -> list[int]:
    """The samples at which a curve has points: evenly in log samples, at whole minibatches, none past `samples`.

    It does not depend on where the run ends. Raises ValueError where no point lies within `samples`, for a
    `batch_size` of less than one, and for an unknown `measure`.
    """
    at_least(1, batch_size=batch_size)
    _refuse_measure(measure)
    start, per_decade, *_ = MEASURES[measure]
    first = round(math.log10(start) * per_decade)
    last = math.floor(math.log10(max(samples, 1)) * per_decade) + 1
    points = (round(10 ** (k / per_decade) / batch_size) * batch_size for k in range(first, last + 1))
    grid = sorted({point for point in points if 0 < point <= samples})
    if not grid:
        raise ValueError(f"a run of {samples} samples ends before the first point of its curve: ask for more")
    return grid
