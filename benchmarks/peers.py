"""The peers of a training step: the loop that tutorials teach, and Pyro (Bingham et al. 2019).

They have the same model, minibatches of the same digits, the same number of matrix products.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from aevb.run import Run
from aevb.trainer import Trainer
from benchmarks.by_hand import networks

Step = Callable[[], object]


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


def pyro_steps(run: Run) -> dict[str, Step]:
    """Pyro's steps on the model and the data of `run`, by name, each with its own copy of the model.

    All have what makes Pyro fast: no validation, the data in memory as floats, torch's fused Adagrad. `SVI` is Pyro's
    usual loop, with an optimiser for each parameter. The last is the fastest of Pyro's documented ways that we found:
    the loss traced once by torch's JIT, and one optimiser for all parameters.
    """
    import pyro
    import pyro.distributions as dist
    from pyro.infer import SVI, JitTrace_ELBO, Trace_ELBO, TraceMeanField_ELBO

    pyro.enable_validation(False)
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # torch's, about its JIT
    about = Trainer(run, 0.01)
    data = about.images.unit(about.train_pixels)
    decay = run.batch_size / len(data)

    def build(name: str) -> tuple[nn.Module, Callable[[Tensor], None], Callable[[Tensor], None]]:
        """The generative model and the guide, Pyro's word for q(z|x), of a new VAE called `name`."""
        vae = Trainer(run, 0.01).model
        encoder, decoder = networks(vae)

        def model(x: Tensor) -> None:
            pyro.module(f"{name}.decoder", decoder)
            with pyro.plate("data", len(x)):
                prior = dist.Normal(x.new_zeros(len(x), run.latent_dim), 1.0).to_event(1)
                logits = decoder(pyro.sample("z", prior))
                pyro.sample("x", dist.Bernoulli(logits=logits, validate_args=False).to_event(1), obs=x)

        def guide(x: Tensor) -> None:
            pyro.module(f"{name}.encoder", encoder)
            with pyro.plate("data", len(x)):
                mu, log_var = encoder(x)
                pyro.sample("z", dist.Normal(mu, torch.exp(0.5 * log_var)).to_event(1))

        return vae, model, guide

    def batch() -> Tensor:
        return data[torch.randint(len(data), (run.batch_size,))]

    def svi(name: str, elbo: Any) -> Step:
        _, model, guide = build(name)

        def options(parameter: str) -> dict:
            return {"lr": 0.01, "eps": 1e-8, "weight_decay": decay * parameter.endswith("weight"), "fused": True}

        inference = SVI(model, guide, pyro.optim.PyroOptim(torch.optim.Adagrad, options), loss=elbo)
        return lambda: inference.step(batch())

    def one_optimizer(name: str, elbo: Any) -> Step:
        vae, model, guide = build(name)
        groups: list[dict[str, Any]] = [
            {"params": [p for p in vae.parameters() if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in vae.parameters() if p.ndim == 1]},
        ]
        optimizer = torch.optim.Adagrad(groups, lr=0.01, eps=1e-8, fused=True)

        def step() -> None:
            loss = elbo.differentiable_loss(model, guide, batch())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    return {
        "Pyro SVI, Trace_ELBO": svi("trace", Trace_ELBO()),
        "Pyro SVI, TraceMeanField_ELBO": svi("mean field", TraceMeanField_ELBO()),
        "Pyro, JitTrace_ELBO, one optimiser": one_optimizer("jit", JitTrace_ELBO(ignore_jit_warnings=True)),
    }
