"""Table 1 of Burda, Grosse and Salakhutdinov (2016), one stochastic layer on MNIST, as far as a budget goes.

    python -m aevb.reproduction.burda     train, measure and record what is not recorded yet; half an hour of a core

Their network, their black and white digits, their optimizer and the first stages of their schedule, trained by
`aevb.importance.weighted`. Adam is as the paper has it; in their code its first decay is 0.99, and its second moments
start at one.
"""

import math
import time
from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from aevb import datasets, importance
from aevb.marginal_likelihood import importance_weighted
from aevb.model import LatentVariableModel
from aevb.networks import BernoulliMLP
from aevb.reproduction import provenance, results

# their negative log-likelihoods of test digits by k, nats, after all eight stages (table 1, stochastic binarization)
PUBLISHED = {1: 86.76, 5: 85.54, 50: 84.78}
# k, the seed and the stages of each run, of their eight: stage i is 3^i passes over the training digits
RUNS = ((1, 0, 3), (5, 0, 3), (50, 0, 2))
LATENT_DIM, WIDTH, BATCH_SIZE = 50, 200, 20  # theirs
EVERY = 20  # of so many test digits one is measured


class TwoLayers(LatentVariableModel):
    """Their VAE: encoder and decoder have two tanh layers of WIDTH units between the pixels and LATENT_DIM latents.

    `mean` `(D,)` are the training pixels' means: the decoder's biases start at their log-odds, all else as Glorot and
    Bengio (2010) have it.
    """

    def __init__(self, mean: Tensor, *, generator: torch.Generator):
        super().__init__()
        self.latent_dim, n = LATENT_DIM, len(mean)
        self.from_pixels = nn.Sequential(nn.Linear(n, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh())
        self.mu, self.log_sigma = nn.Linear(WIDTH, LATENT_DIM), nn.Linear(WIDTH, LATENT_DIM)
        self.from_latents = nn.Sequential(nn.Linear(LATENT_DIM, WIDTH), nn.Tanh())
        self.pixels = BernoulliMLP(WIDTH, WIDTH, n, generator=torch.Generator())
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                nn.init.zeros_(parameter)
        with torch.no_grad():
            self.pixels.logit.bias.copy_(mean.clamp(0.001, 0.999).logit())

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.from_pixels(x)
        return self.mu(h), 2 * self.log_sigma(h)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return self.pixels.log_prob(x, self.from_latents(z))


def black_and_white(grey: Tensor, *, generator: torch.Generator) -> Tensor:
    """Zeros and ones, each one with its grey level as the probability, of the shape of `grey`."""
    return (torch.rand(grey.shape, generator=generator) < grey).to(grey.dtype)


def train(grey: Tensor, k: int, seed: int, stages: int) -> Iterator[tuple[int, TwoLayers]]:
    """The passes made over `grey` `(N, D)` and the model after each stage of their schedule, trained with `k` samples.

    Stage i makes 3^i passes at the step size 0.001 * 10^(-i/7); each pass draws the pixels anew. It is the same model
    that goes on. Raises ValueError where `k` is less than one.
    """
    generator = torch.Generator().manual_seed(seed)
    model, objective = TwoLayers(grey.mean(0), generator=generator), importance.weighted(k)
    adam = torch.optim.Adam(model.parameters(), eps=1e-4)
    passes = 0
    for stage in range(stages):
        adam.param_groups[0]["lr"] = 0.001 * 10 ** (-stage / 7)
        for _ in range(3**stage):
            for rows in torch.randperm(len(grey), generator=generator).split(BATCH_SIZE):
                x = black_and_white(grey[rows], generator=generator)
                adam.zero_grad()
                objective(model, x, generator=generator).loss.backward()
                adam.step()
        passes += 3**stage
        yield passes, model


def measure(k: int, seed: int, stages: int) -> Iterator[dict]:
    """A row after each stage: k, seed, passes, the mean `nll` of test digits and its `standard_error`, nats.

    By 5000 importance samples, as theirs; the estimate errs upwards in the mean.
    """
    digits = datasets.load("mnist")
    grey = digits.unit(torch.cat([digits.train, digits.valid]))
    x = black_and_white(digits.unit(digits.test[::EVERY]), generator=torch.Generator().manual_seed(0))
    for passes, model in train(grey, k, seed, stages):
        nll = -importance_weighted(model, x, generator=torch.Generator().manual_seed(1)).log_px.double()
        error = nll.std().item() / math.sqrt(len(nll))
        yield {"k": k, "seed": seed, "passes": passes, "nll": nll.mean().item(), "standard_error": error}


def main() -> None:
    """Record every run as it is done, but for those that the record has as far already."""
    torch.set_num_threads(1)
    for k, seed, stages in tqdm(RUNS):
        kept, about = results.table("burda")
        mine = (kept["k"] == k) & (kept["seed"] == seed)
        if mine.sum() >= stages:
            continue
        start = time.perf_counter()
        rows = pd.DataFrame(measure(k, seed, stages))
        seconds = round(time.perf_counter() - start, 1)
        about[f"k = {k}, seed {seed}"] = {"seconds": seconds, "device": "cpu, 1 thread", **provenance.here()}
        kept = pd.concat([kept[~mine], rows]) if len(kept) else rows
        results.write_table("burda", kept.sort_values(["k", "seed", "passes"]), about)


if __name__ == "__main__":
    main()
