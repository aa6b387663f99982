"""A peer of the training step: Pyro (Bingham et al. 2019), which has to be installed.

It has the same model, minibatches of the same digits, the same number of matrix products.
"""

import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, JitTrace_ELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from aevb.optimizer import flushed_denormals
from aevb.run import Run
from aevb.trainer import Trainer
from benchmarks.floor import networks
from benchmarks.timing import Step

Program = Callable[[Tensor], None]  # of minibatches `(M, D)`, as Pyro writes a model


def steps(run: Run) -> dict[str, Step]:
    """Pyro's steps on the model and the data of `run`, by name, each with its own copy of the model.

    All have what makes Pyro fast: no validation, the data in memory as floats, torch's fused Adagrad; and denormal
    numbers flushed, as the library has it. `SVI` is Pyro's usual loop, with an optimiser for each parameter. The last
    is the fastest of Pyro's documented ways that we found: the loss traced once by torch's JIT, and one optimiser for
    all parameters.
    """
    pyro.enable_validation(False)
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # torch's, about its JIT
    about = Trainer(run, 0.01)
    data = about.images.unit(about.train_pixels)

    def batch() -> Tensor:
        return data[torch.randint(len(data), (run.batch_size,))]

    decay = run.batch_size / len(data)
    return {
        "Pyro SVI, Trace_ELBO": _svi(run, "trace", Trace_ELBO(), batch, decay),
        "Pyro SVI, TraceMeanField_ELBO": _svi(run, "mean field", TraceMeanField_ELBO(), batch, decay),
        "Pyro, JitTrace_ELBO, one optimiser": _one_optimizer(
            run, "jit", JitTrace_ELBO(ignore_jit_warnings=True), batch, decay
        ),
    }


def _programs(run: Run, name: str) -> tuple[nn.Module, Program, Program]:
    """A new VAE called `name`, with its generative model and its guide, Pyro's word for q(z|x)."""
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


def _svi(run: Run, name: str, elbo: Any, batch: Callable[[], Tensor], decay: float) -> Step:
    _, model, guide = _programs(run, name)

    def options(parameter: str) -> dict:
        return {"lr": 0.01, "eps": 1e-8, "weight_decay": decay * parameter.endswith("weight"), "fused": True}

    inference = SVI(model, guide, pyro.optim.PyroOptim(torch.optim.Adagrad, options), loss=elbo)

    def step() -> None:
        with flushed_denormals():
            inference.step(batch())

    return step


def _one_optimizer(run: Run, name: str, elbo: Any, batch: Callable[[], Tensor], decay: float) -> Step:
    vae, model, guide = _programs(run, name)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in vae.parameters() if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in vae.parameters() if p.ndim == 1]},
    ]
    optimizer = torch.optim.Adagrad(groups, lr=0.01, eps=1e-8, fused=True)

    def step() -> None:
        loss = elbo.differentiable_loss(model, guide, batch())
        optimizer.zero_grad()
        loss.backward()
        with flushed_denormals():
            optimizer.step()

    return step
