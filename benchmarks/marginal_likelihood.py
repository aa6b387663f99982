"""The cost of the Appendix D estimate of 1000 digits, beside the bare matrix products of its decoder passes.

Both in one process on one thread, in turn, medians of several repetitions: `python -m benchmarks.marginal_likelihood`.
"""

import statistics
import time
from collections.abc import Callable

import torch
from tabulate import tabulate

from aevb import datasets, marginal_likelihood
from aevb.model import bernoulli_vae
from aevb.networks import BernoulliMLP
from benchmarks.floor import networks

REPETITIONS = 5
N_DIGITS, HIDDEN, LATENT = 1000, 100, 3  # figure 3's


def decoder_passes(decoder: BernoulliMLP, estimate: Callable[[], object]) -> list[int]:
    """The rows of every pass through the decoder's output layer while `estimate()` runs."""
    rows: list[int] = []
    hook = decoder.logit.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0][..., 0].numel()))
    estimate()
    hook.remove()
    return rows


def decoder_products(decoder: BernoulliMLP, rows: list[int]) -> None:
    """The matrix products of those passes, forward and backward to z, and nothing else."""
    W1, W2 = decoder.hidden.weight.detach(), decoder.logit.weight.detach()
    sizes = {n: [torch.zeros(n, width) for width in (LATENT, HIDDEN, HIDDEN, len(W2))] for n in set(rows)}
    for n in rows:
        z, h, to_h, to_x = sizes[n]
        torch.mm(z, W1.T, out=h)
        torch.mm(h, W2.T, out=to_x)
        torch.mm(to_x, W2, out=to_h)
        torch.mm(to_h, W1, out=z)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    torch.set_num_threads(1)
    dataset = datasets.load("mnist")
    x = dataset.unit(dataset.test[:N_DIGITS])
    model = bernoulli_vae(x.shape[1], HIDDEN, LATENT, generator=torch.Generator().manual_seed(0))

    def estimate() -> None:
        marginal_likelihood.appendix_d(model, x, generator=torch.Generator().manual_seed(1))

    _, decoder = networks(model)
    rows = decoder_passes(decoder, estimate)
    times = [(seconds(estimate), seconds(lambda: decoder_products(decoder, rows))) for _ in range(REPETITIONS)]
    ours, bare = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = sorted(a / b for a, b in times)
    table = [
        ("the estimate: burn-in, tuning, two rounds of 50 samples", f"{ours:.2f} s"),
        (f"its decoder passes as bare products ({sum(rows) / N_DIGITS:.0f} per digit)", f"{bare:.2f} s"),
        ("ratio, median (least, most)", f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}, {ratios[-1]:.2f})"),
    ]
    print(tabulate(table, ["Appendix D, 1000 digits, 100 hidden units, one thread", ""]))


if __name__ == "__main__":
    main()
