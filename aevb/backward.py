"""The backward pass by hand: the gradients of AEVB and of wake-sleep for the VAE of section 5, without autograd.

Each is the gradient of the objective of the same name in `objectives`, up to rounding, at the noise that the objective
would have drawn. The book's appendix *The backward pass by hand* derives them. Shapes are those of `networks`: with
an ensemble every tensor has a leading axis of E members, and members of fewer latents than the widest are padded with
zeros, which stay zeros. Nothing here is differentiable, and a step keeps nothing for the next but memory to write in.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aevb import objectives
from aevb.checks import refuse_outside
from aevb.model import VAE
from aevb.networks import Affine, BernoulliMLP, GaussianMLP
from aevb.objectives import Objective

LOG_2PI = math.log(2 * math.pi)
Noise = dict[str, Tensor]
Sampler = Callable[..., Tensor]


class Gradients(NamedTuple):
    """The gradient of a loss in each parameter, and the bound that comes along.

    `gradients` are in the order of the parameters that were asked for, of the loss summed over the minibatch, nats.
    `bound` is that of an `objectives.Update`. Both are to be used before the next step, which writes in their place.
    """

    gradients: Sequence[Tensor]
    bound: Tensor


def product(left: Tensor, right: Tensor, out: Tensor, *, plus: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """`scale` times the matrix product of `left` and `right`, `plus` another matrix, written to `out`.

    For matrices, or for ensembles of them with a leading axis.
    """
    multiply = torch.addmm if out.ndim == 2 else torch.baddbmm
    return multiply(out if plus is None else plus, left, right, beta=float(plus is not None), alpha=scale, out=out)


class Layer:
    """An `Affine` layer's two passes: its output forward, the gradients in its weights and its input backward."""

    def __init__(self, layer: Affine, batch_size: int):
        self.layer, self.scale = layer, layer.scale
        *members, n_out, _ = layer.weight.shape
        self.out = layer.weight.new_empty(*members, batch_size, n_out)
        self.in_weight, self.in_bias = torch.empty_like(layer.weight), torch.empty_like(layer.bias)

    def forward(self, u: Tensor) -> Tensor:
        """`scale` W u + b, `(..., M, n_out)`, for `u` of shape `(..., M, n_in)`."""
        return product(u, self.layer.weight.mT, self.out, plus=self.layer.bias.unsqueeze(-2), scale=self.scale)

    def backward(self, slope: Tensor, u: Tensor) -> None:
        """The gradients in W and b, from `slope`, the loss's gradient in the output, at the input `u`."""
        product(slope.mT, u, self.in_weight, scale=self.scale)
        torch.sum(slope, -2, out=self.in_bias)

    def to_input(self, slope: Tensor, out: Tensor, plus: Tensor | None = None) -> Tensor:
        """The gradient in the input, `(..., M, n_in)`, on top of `plus`, written to `out`."""
        return product(slope, self.layer.weight, out, plus=plus, scale=self.scale)


class Network:
    """The two passes through an MLP of Appendix C: one tanh layer, and one or two linear layers on top."""

    def __init__(self, network: BernoulliMLP | GaussianMLP, batch_size: int):
        heads = (network.logit,) if isinstance(network, BernoulliMLP) else (network.mu, network.log_var)
        self.hidden, self.heads = Layer(network.hidden, batch_size), [Layer(head, batch_size) for head in heads]
        self.slope, self.in_u = torch.empty_like(self.hidden.out), torch.empty(0)
        self.u = torch.empty(0)

    def forward(self, u: Tensor) -> list[Tensor]:
        """The output of each layer on top, for `u` of shape `(..., M, n_in)`."""
        self.u = u
        h = torch.tanh_(self.hidden.forward(u))
        return [head.forward(h) for head in self.heads]

    def backward(self, slopes: Sequence[Tensor]) -> None:
        """The gradients in all weights, from the loss's gradients in the outputs of the last `forward`."""
        h, slope = self.hidden.out, self.slope
        for k, (head, in_output) in enumerate(zip(self.heads, slopes, strict=True)):
            head.backward(in_output, h)
            head.to_input(in_output, slope, plus=slope if k else None)
        torch.ops.aten.tanh_backward.grad_input(slope, h, grad_input=slope)  # slope (1 - h^2)
        self.hidden.backward(slope, self.u)

    def in_input(self) -> Tensor:
        """The gradient in `u`, after `backward`: `(..., M, n_in)`."""
        if self.in_u.shape != self.u.shape:
            self.in_u = torch.empty_like(self.u)
        return self.hidden.to_input(self.slope, self.in_u)


def bernoulli(outputs: Sequence[Tensor], x: Tensor, scratch: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """log p(x|z) of eq. 11, `(..., M)`, and the gradient of minus it in the logits, y - x.

    The memory of all arguments but `x` is used.
    """
    (logits,), (some,) = outputs, scratch
    log_px_given_z = torch.mul(x, logits, out=some).sum(-1)
    log_px_given_z -= torch.ops.aten.softplus.out(logits, out=some).sum(-1)
    return log_px_given_z, [torch.sigmoid_(logits).sub_(x)]


def gaussian(
    outputs: Sequence[Tensor], x: Tensor, scratch: Sequence[Tensor], *, unit_mean: bool
) -> tuple[Tensor, list[Tensor]]:
    """log p(x|z) of eq. 12, `(..., M)`, and the gradients of minus it in both outputs.

    With `unit_mean` the first output is what the mean is the sigmoid of. The memory of all arguments but `x` is used.
    """
    (mu, log_var), (miss, weighted) = outputs, scratch
    if unit_mean:
        torch.sigmoid_(mu)
    torch.sub(mu, x, out=miss)
    torch.neg(log_var, out=weighted).exp_().mul_(miss)
    quadratic = miss.mul_(weighted)
    log_px_given_z = -0.5 * (log_var.add_(quadratic).sum(-1) + LOG_2PI * x.shape[-1])
    in_log_var = torch.mul(quadratic.sub_(1), -0.5, out=log_var)
    in_mu = torch.ops.aten.sigmoid_backward.grad_input(weighted, mu, grad_input=mu) if unit_mean else weighted
    return log_px_given_z, [in_mu, in_log_var]


class Pass:
    """The forward and the backward pass of one objective for one VAE, or for an ensemble of them (`model.stack`).

    A subclass says which noise a step takes, in the order in which its objective draws it, and differentiates.
    """

    def __init__(self, model: VAE, batch_size: int):
        self.model, self.batch_size = model, batch_size
        self.encoder, self.decoder = Network(model.encoder, batch_size), Network(model.decoder, batch_size)
        layers = [layer for network in (self.encoder, self.decoder) for layer in (network.hidden, *network.heads)]
        heads = self.decoder.heads
        self.scratch = [torch.empty_like(head.out) for head in heads]  # as large as the data
        self.drawn: dict[str, Tensor] = {}  # the noise, `(E, M, width)`
        self.in_parameter: dict[Tensor, Tensor] = {
            parameter: gradient
            for layer in layers
            for parameter, gradient in ((layer.layer.weight, layer.in_weight), (layer.layer.bias, layer.in_bias))
        }

    def noise(self) -> dict[str, tuple[Sampler, Sequence[int]]]:
        """The sampler of each noise, and how many numbers per datapoint each member takes of it."""
        raise NotImplementedError

    def differentiate(self, x: Tensor, noise: Noise) -> Tensor:
        """The bound at `x` `(..., M, D)`: `(..., M)`, nats. The gradients are left in the layers."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(self, x: Tensor, noise: Noise, parameters: Sequence[Tensor]) -> Gradients:
        """The gradients in `parameters`. Raises ValueError where `x` is empty or outside the domain of p(x|z)."""
        refuse_outside(x, self.model.decoder.domain)
        bound = self.differentiate(x.to(self.encoder.slope.dtype), noise)
        return Gradients([self.in_parameter[parameter] for parameter in parameters], bound)

    def draw(self, generators: Sequence[torch.Generator]) -> Noise:
        """The noise of the next step, each `(..., M, width)`, from the generator of each member.

        A member draws what it would alone; what pads it is zero.
        """
        for name, (sampler, widths) in self.noise().items():
            if name not in self.drawn:
                size = len(widths), self.batch_size, max(widths)
                self.drawn[name] = self.encoder.slope.new_zeros(size)
            for together, width, generator in zip(self.drawn[name], widths, generators, strict=True):
                own = together[:, :width]
                kind = {"dtype": own.dtype, "device": generator.device}  # whatever torch's defaults are
                if own.is_contiguous() and own.device.type == generator.device.type:
                    sampler(own.shape, generator=generator, out=own, **kind)
                else:
                    own.copy_(sampler(own.shape, generator=generator, **kind))
        alone = self.encoder.slope.ndim == 2
        return {name: values[0] if alone else values for name, values in self.drawn.items()}

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z), `(..., M)`, nats. The gradients of minus it are left in the decoder."""
        outputs, decoder = self.decoder.forward(z), self.model.decoder
        if isinstance(decoder, BernoulliMLP):
            log_px_given_z, in_outputs = bernoulli(outputs, x, self.scratch)
        else:
            log_px_given_z, in_outputs = gaussian(outputs, x, self.scratch, unit_mean=decoder.unit_mean)
        self.decoder.backward(in_outputs)
        return log_px_given_z


class AEVBPass(Pass):
    """Of `objectives.aevb`: minus estimator B at one sample."""

    def noise(self) -> dict[str, tuple[Sampler, Sequence[int]]]:
        return {"eps": (torch.randn, self.model.latent_dims)}

    def differentiate(self, x: Tensor, noise: Noise) -> Tensor:
        mu, log_var = self.encoder.forward(x)
        sigma = torch.exp(0.5 * log_var)
        away = sigma * noise["eps"]
        log_px_given_z = self.log_likelihood(x, mu + away)
        variance = sigma.square_()
        bound = log_px_given_z + 0.5 * (1 + log_var - mu.square() - variance).sum(-1)
        in_z = self.decoder.in_input()
        in_log_var = torch.mul(away.mul_(in_z).add_(variance).sub_(1), 0.5, out=log_var)
        self.encoder.backward([mu.add_(in_z), in_log_var])
        return bound


class WakeSleepPass(Pass):
    """Of `objectives.wake_sleep`: minus log p(x, z) for theta, minus log q(z'|x') of a dream for phi."""

    def __init__(self, model: VAE, batch_size: int):
        super().__init__(model, batch_size)
        widest = max(model.latent_dims)
        rows = [[float(j < own) for j in range(widest)] for own in model.latent_dims]
        self.own = self.encoder.slope.new_tensor(rows)[:, None]  # (E, 1, J): one where a latent is the member's own
        self.padded = min(model.latent_dims) < widest

    def noise(self) -> dict[str, tuple[Sampler, Sequence[int]]]:
        decoder, latent_dims = self.model.decoder, self.model.latent_dims
        n_pixels = self.decoder.heads[0].out.shape[-1]
        of_x = torch.rand if isinstance(decoder, BernoulliMLP) else torch.randn
        return {
            "eps": (torch.randn, latent_dims),
            "z": (torch.randn, latent_dims),
            "x": (of_x, [n_pixels] * len(latent_dims)),
        }

    def differentiate(self, x: Tensor, noise: Noise) -> Tensor:
        mu, log_var = self.encoder.forward(x)
        eps = noise["eps"]
        z = mu + torch.exp(0.5 * log_var) * eps
        log_ratio = 0.5 * (log_var + eps.square() - z.square()).sum(-1)  # log p(z) - log q(z|x)
        bound = self.log_likelihood(x, z) + log_ratio
        mu, log_var = self.encoder.forward(self.dream(noise))
        miss = mu.sub_(noise["z"])
        in_mu = miss * torch.exp(-log_var)
        in_log_var = torch.mul(miss.mul_(in_mu).sub_(1), -0.5, out=log_var)
        self.encoder.backward([in_mu, in_log_var.mul_(self.own) if self.padded else in_log_var])
        return bound

    def dream(self, noise: Noise) -> Tensor:
        """x' ~ p(x|z'), `(..., M, D)`, in the decoder's memory."""
        outputs, decoder = self.decoder.forward(noise["z"]), self.model.decoder
        if isinstance(decoder, BernoulliMLP):
            y = torch.sigmoid_(outputs[0])
            return torch.lt(noise["x"], y, out=y)
        mu, log_var = outputs
        mean = torch.sigmoid_(mu) if decoder.unit_mean else mu
        return mean.add_(log_var.mul_(0.5).exp_().mul_(noise["x"]))


PASSES: dict[Objective, type[Pass]] = {objectives.aevb: AEVBPass, objectives.wake_sleep: WakeSleepPass}


def by_hand(objective: Objective, model: torch.nn.Module, batch_size: int) -> Pass | None:
    """The pass of `objective` for `model`, or None where nobody has derived it: autograd then does."""
    if objective not in PASSES or type(model) is not VAE:
        return None
    encoder, decoder = model.encoder, model.decoder
    plain = type(encoder) is GaussianMLP and not encoder.unit_mean and type(decoder) in (BernoulliMLP, GaussianMLP)
    return PASSES[objective](model, batch_size) if plain else None
