"""A peer of the training step: the loop that tutorials teach.

It has the same model, minibatches of the same digits, the same number of matrix products.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from aevb.run import Run
from aevb.trainer import Trainer
from benchmarks.timing import Step


class Digits(torch.utils.data.Dataset):
    """MNIST as tutorials hold it: each item is turned into floats on demand."""

    def __init__(self, pixels: Tensor):
        self.pixels = pixels.numpy().reshape(-1, 28, 28)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.pixels[index]).to(torch.float32).div(255)


def tutorial(run: Run) -> Step:
    """The usual loop: a DataLoader with a transform per item, Adam, eager torch, the loss as a number at each step."""
    pixels = Trainer(run, 0.01).train_pixels
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, run.hidden), nn.Tanh())
    heads = nn.ModuleList([nn.Linear(run.hidden, run.latent_dim) for _ in range(2)])
    decoder = nn.Sequential(nn.Linear(run.latent_dim, run.hidden), nn.Tanh(), nn.Linear(run.hidden, 784), nn.Sigmoid())
    optimizer = torch.optim.Adam(nn.ModuleList([encoder, heads, decoder]).parameters(), lr=1e-3)

    def epochs() -> Iterator[Tensor]:
        while True:
            yield from DataLoader(Digits(pixels), batch_size=run.batch_size, shuffle=True)

    batches = epochs()

    def step() -> float:
        x = next(batches)
        h = encoder(x)
        mu, log_var = heads[0](h), heads[1](h)
        z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
        reconstruction = F.binary_cross_entropy(decoder(z), x.flatten(1), reduction="sum")
        loss = reconstruction - 0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
