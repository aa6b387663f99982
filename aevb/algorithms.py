"""The algorithms that train: each is a value that knows all that is special about it.

To add one, write its objective and an entry of ALGORITHMS.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from aevb import backward, importance, mcem, objectives, priors, weighted_kl
from aevb.backward import Gradients, Pass
from aevb.checks import at_least
from aevb.colours import BLUE, GREEN, GREY, ORANGE, PINK, SKY, YELLOW
from aevb.flows import Autoregressive, Flow, FlowVAE, Planar
from aevb.full_vb import FullVB, evidence_bound, full_vb
from aevb.measures import mean_bound, mean_held_out_bound, mean_likelihood, mean_sampled_bound
from aevb.model import VAE, Decoder, LatentVariableModel
from aevb.objectives import Objective

COMPONENTS = 50  # of the learned priors
FREE_NATS = 0.5  # per latent, of "free-bits"
ANNEALED_OVER = 500  # updates, the warm-up among them: half of the first 10^5 samples

Draw = Callable[[], tuple[Tensor, Tensor]]  # the rows of the next minibatch, `(M,)`, and its data, `(M, D)`
Trained = Decoder | FullVB  # what an algorithm trains
Evaluate = Callable[..., float]  # of a model, images, pixels `(N, D)` of theirs, and noise: nats per datapoint


class Updates(Protocol):
    """The updates that an algorithm makes of minibatches, one after the other, and its memory between them."""

    def next(
        self, model: Trained, parameters: Sequence[Tensor], draw: Draw, *, generators: Sequence[torch.Generator]
    ) -> Gradients:
        """The next gradients of `model` in its `parameters`; `draw` gives a fresh minibatch."""

    def state(self) -> dict[str, Any]:
        """A copy of all that is remembered, on the CPU."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a `state`, without keeping hold of it."""


class OfMinibatches:
    """Updates by an objective, each of a fresh minibatch; nothing is remembered.

    The gradients are those derived by hand where there are any, and autograd's of the objective otherwise.
    """

    def __init__(self, objective: Objective):
        self.objective = objective
        self._pass: tuple[tuple[Objective, Trained, int], Pass | None] | None = None

    def next(
        self, model: Trained, parameters: Sequence[Tensor], draw: Draw, *, generators: Sequence[torch.Generator]
    ) -> Gradients:
        _, x = draw()
        by_hand = self._by_hand(model, x.shape[-2])
        if by_hand:
            return by_hand(x, by_hand.draw(generators), parameters)
        update = self.objective(model, x, generator=generators[0] if x.ndim == 2 else generators)
        return Gradients(torch.autograd.grad(update.loss, parameters), update.bound)

    def _by_hand(self, model: Trained, batch_size: int) -> Pass | None:
        key = self.objective, model, batch_size
        if self._pass is None or self._pass[0] != key:
            self._pass = key, backward.by_hand(*key)
        return self._pass[1]

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass


class Annealed(OfMinibatches):
    """Updates by `weighted_kl.beta` whose weight rises in a straight line from 0 to 1 over `over` updates, then stays.

    KL annealing (Bowman et al. 2016): the decoder learns to use z before z has to pay. Updates of Adagrad's warm-up
    count. Remembered is the number of updates made. Raises ValueError where `over` is less than one.
    """

    def __init__(self, over: int):
        at_least(1, over=over)
        super().__init__(weighted_kl.beta(0.0))
        self.over, self.made = over, 0

    @property
    def weight(self) -> float:
        """The weight of the next update."""
        return min(1.0, self.made / self.over)

    def next(
        self, model: Trained, parameters: Sequence[Tensor], draw: Draw, *, generators: Sequence[torch.Generator]
    ) -> Gradients:
        self.objective = weighted_kl.beta(self.weight)
        self.made += 1
        return super().next(model, parameters, draw, generators=generators)

    def state(self) -> dict[str, Any]:
        return {"made": self.made}

    def restore(self, state: dict[str, Any]) -> None:
        self.made = state["made"]


class OfChains:
    """Monte Carlo EM's updates: a minibatch is kept for several, and its chains are moved before the first."""

    def __init__(self, n: int, latent_dim: int, *, generator: torch.Generator):
        self.chains = mcem.Chains(n, latent_dim, generator=generator)
        self.rows = torch.empty(0, dtype=torch.int64, device=generator.device)
        self.x = torch.empty(0, dtype=torch.float32, device=generator.device)
        self.left = 0  # updates that the minibatch is still kept for

    def next(
        self, model: Trained, parameters: Sequence[Tensor], draw: Draw, *, generators: Sequence[torch.Generator]
    ) -> Gradients:
        assert isinstance(model, LatentVariableModel)
        (generator,) = generators  # its runs do not stack
        if not self.left:
            self.rows, self.x = draw()
            self.chains.move(model, self.x, self.rows, generator=generator)
            self.left = mcem.UPDATES_PER_SAMPLE
        self.left -= 1
        update = mcem.m_step(model, self.x, self.chains.z[self.rows][None])
        return Gradients(torch.autograd.grad(update.loss, parameters), update.bound)

    def state(self) -> dict[str, Any]:
        return {
            "z": self.chains.z.cpu().clone(),  # which `move` changes in place
            "step_size": self.chains.step_size,
            "rows": self.rows.cpu(),
            "x": self.x.cpu().clone(),  # whose memory is the next minibatch's
            "left": self.left,
        }

    def restore(self, state: dict[str, Any]) -> None:
        device = self.chains.z.device
        self.chains.z.copy_(state["z"])
        self.chains.step_size = state["step_size"]
        self.rows, self.x, self.left = state["rows"].to(device), state["x"].to(device), state["left"]


@dataclass(frozen=True)
class Algorithm:
    """All that is special about one algorithm.

    `title` and `colour` are those of its curves; those that are `compared` are trained side by side in figure 2.
    `model(vae, n_train, initial_sigma)` is what it trains, made of the VAE with which every algorithm starts.
    `updates(n, latent_dim, generator=...)` begins a run over n training points. `measures` are the measures that its
    models have, by name, and how each is taken; `lacks` says in half a sentence why it has no other. Runs of an
    algorithm that `stacks` train as an ensemble; its updates must remember nothing, for there are those of one run
    alone. Runs of one that `pads` may differ in latent dimension too. Where the `prior_in_loss` is, no weight decay is
    added. `evidence(model, x, generator=...)` gives the `data` and `evidence` of a point.
    """

    name: str
    title: str
    colour: str
    updates: Callable[..., Updates]
    model: Callable[[VAE, int, float], Trained]
    measures: dict[str, Evaluate]
    lacks: str = ""
    compared: bool = False
    stacks: bool = True
    pads: bool = False
    prior_in_loss: bool = False
    evidence: Callable[..., tuple[float, float]] | None = None


def _of_minibatches(objective: Objective) -> Callable[..., Updates]:
    return lambda n, latent_dim, *, generator: OfMinibatches(objective)


def _evidence(model: FullVB, x: Tensor, *, generator: torch.Generator) -> tuple[float, float]:
    bound = evidence_bound(model, x, 1, generator=generator)
    return bound.data / bound.n, bound.per_datapoint


def _of_a_vae(
    name: str, title: str, colour: str, objective: Objective, *, compared: bool = False, stacks: bool = True
) -> Algorithm:
    """An algorithm that trains the VAE as it is, by an objective of a minibatch."""
    measures = {"bound": mean_bound, "marginal-likelihood": mean_likelihood}
    return Algorithm(
        name,
        title,
        colour,
        _of_minibatches(objective),
        lambda vae, *_: vae,
        measures,
        compared=compared,
        stacks=stacks,
        pads=stacks and objective in backward.PASSES,  # padding is an ensemble's
    )


def _by_estimator_a(name: str, title: str, colour: str, model: Callable[..., Trained]) -> Algorithm:
    """AEVB by estimator A, for a model to which estimator B does not apply; an ensemble has no axis for its parts."""
    measures = {"bound": mean_sampled_bound, "marginal-likelihood": mean_likelihood}
    return Algorithm(name, title, colour, _of_minibatches(importance.weighted(1)), model, measures, stacks=False)


def _more_than(model: Callable[..., Trained]) -> Callable[..., Trained]:
    """How a model of more than a VAE is made of one; what is drawn for it is the same for all seeds of a run."""
    return lambda vae, *_: model(vae, generator=torch.Generator().manual_seed(0))


def _with_flow(family: Callable[[int, int], Flow], n_steps: int) -> Callable[..., Trained]:
    return _more_than(lambda vae, **noise: FlowVAE(vae, family(vae.latent_dim, n_steps), **noise))


def _with_prior(prior: Callable[..., priors.LearnedPrior]) -> Callable[..., Trained]:
    return _more_than(lambda vae, **noise: prior(vae, COMPONENTS, **noise))


# the algorithms, by name
ALGORITHMS = {
    algorithm.name: algorithm
    for algorithm in (
        _of_a_vae("aevb", "AEVB", BLUE, objectives.aevb, compared=True),
        _of_a_vae("wake-sleep", "wake-sleep", ORANGE, objectives.wake_sleep, compared=True),
        _of_a_vae("score-function", "score function", SKY, objectives.score_function),
        Algorithm(
            "mcem",
            "MCEM",
            GREEN,
            OfChains,
            lambda vae, *_: Decoder(vae.decoder),
            {"marginal-likelihood": mean_likelihood},
            lacks="has no recognition model and so no bound",
            stacks=False,  # its chains are no function of a minibatch
        ),
        Algorithm(
            "full-vb",
            "full VB",
            PINK,
            _of_minibatches(full_vb),
            FullVB,
            {"bound": mean_held_out_bound},
            lacks="has no one theta and so no log p(x) at it",
            stacks=False,  # it takes the weights for one vector, with no axis of runs
            prior_in_loss=True,
            evidence=_evidence,
        ),
        # the exponentials in their weights magnify rounding: an ensemble would not be its single runs
        _of_a_vae("iwae-5", "importance-weighted, k = 5", YELLOW, importance.weighted(5), stacks=False),
        _of_a_vae("iwae-50", "importance-weighted, k = 50", "#8C6100", importance.weighted(50), stacks=False),
        _of_a_vae("dreg-5", "doubly reparameterized, k = 5", GREY, importance.doubly(5), stacks=False),
        _of_a_vae("dreg-50", "doubly reparameterized, k = 50", "#000000", importance.doubly(50), stacks=False),
        _of_a_vae("estimator-a", "AEVB by estimator A", "#1F3A5F", importance.weighted(1), stacks=False),
        _by_estimator_a("planar-1", "planar flow, 1 step", "#8FD3C0", _with_flow(Planar, 1)),
        _by_estimator_a("planar-4", "planar flow, 4 steps", "#2FAF8F", _with_flow(Planar, 4)),
        _by_estimator_a("planar-16", "planar flow, 16 steps", "#00553F", _with_flow(Planar, 16)),
        _by_estimator_a("iaf-1", "autoregressive flow, 1 step", "#D9A0C8", _with_flow(Autoregressive, 1)),
        _by_estimator_a("iaf-4", "autoregressive flow, 4 steps", "#8A2E6C", _with_flow(Autoregressive, 4)),
        _by_estimator_a("mixture", "mixture prior", "#332288", _with_prior(priors.MixturePrior)),
        _by_estimator_a("vamp", "VampPrior", "#882255", _with_prior(priors.VampPrior)),
        _of_a_vae("beta-0.5", "beta = 0.5", "#44AA99", weighted_kl.beta(0.5)),
        _of_a_vae("beta-4", "beta = 4", "#117733", weighted_kl.beta(4.0)),
        _of_a_vae("free-bits", "free bits", "#AA4499", weighted_kl.free_bits(FREE_NATS)),
        replace(
            _of_a_vae("annealed", "annealed KL", "#999933", objectives.aevb, stacks=False),  # it counts its updates
            updates=lambda n, latent_dim, *, generator: Annealed(ANNEALED_OVER),
        ),
    )
}
