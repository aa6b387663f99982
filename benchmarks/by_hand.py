"""How fast a step could be: its matrix products alone, and a step whose backward pass is written by hand.

For AEVB on the MNIST model of section 5. Nothing here trains anything in the book: the products are the floor that a
step stands on, and the step by hand is the bound of what torch can do with the same kernels and no autograd.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aevb.model import VAE
from aevb.networks import BernoulliMLP, GaussianMLP
from aevb.optimizer import MapAdagrad
from aevb.run import Run
from aevb.trainer import Trainer


def networks(model: nn.Module) -> tuple[GaussianMLP, BernoulliMLP]:
    """Encoder and decoder of the MNIST model of section 5, which is what everything here is about."""
    assert isinstance(model, VAE) and isinstance(model.decoder, BernoulliMLP)
    return model.encoder, model.decoder


def products(model: nn.Module, batch_size: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """`(left, right, out)` of every matrix product in one step of AEVB, in their order, outputs allocated once.

    A linear layer is one product forward and two backward, for its weights and for its input; the gradient in x
    is of no use and left out.
    """
    encoder, decoder = networks(model)
    forward, backward = [], []
    for layer in (encoder.hidden, encoder.mu, encoder.log_var, decoder.hidden, decoder.logit):
        W = layer.weight.detach()
        n_out, n_in = W.shape
        u, gradient = torch.rand(batch_size, n_in), torch.rand(batch_size, n_out)
        forward.append((u, W.T, torch.empty(batch_size, n_out)))
        if layer is not encoder.hidden:
            backward.append((gradient, W, torch.empty(batch_size, n_in)))
        backward.append((gradient.T, u, torch.empty(n_out, n_in)))
    return forward + backward[::-1]


def flops(some: list[tuple[Tensor, Tensor, Tensor]]) -> int:
    """Floating-point operations of `products`, an addition and a multiplication being two."""
    return sum(2 * left.shape[0] * left.shape[1] * right.shape[1] for left, right, _ in some)


def multiply(some: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Compute `products`, one after another."""
    for left, right, out in some:
        torch.mm(left, right, out=out)


class HandWritten:
    """AEVB's step without autograd: the same draws, bound, gradient and update as `Trainer.step`, by hand."""

    def __init__(self, run: Run, step_size: float):
        trainer = Trainer(run, step_size)
        self.run, self.pixels, self.scale = run, trainer.train_pixels, trainer.images.dataset.scale
        self.model, self.generator = trainer.model, trainer.generator
        self.step_size, self.prior_weight = step_size, run.batch_size / len(self.pixels)
        self.allocate()
        self.steps, self.bound_sum = 0, torch.zeros((), dtype=torch.float64)

    def allocate(self) -> None:
        """Buffers for the model as it is, in its precision, and an optimiser for it."""
        (encoder, decoder), M = networks(self.model), self.run.batch_size
        layers = (decoder.hidden, decoder.logit, encoder.hidden, encoder.mu, encoder.log_var)
        self.weights = [layer.weight.detach() for layer in layers]  # W1 to W5 of Appendix C
        self.biases = [layer.bias.detach() for layer in layers]
        self.weight_gradients = [torch.empty_like(W) for W in self.weights]
        self.bias_gradients = [torch.empty_like(b) for b in self.biases]
        W1, W2, W3, *_ = self.weights
        self.x, self.eps = W3.new_empty(M, W3.shape[1]), W1.new_empty(M, W1.shape[1])
        self.logits = W2.new_empty(M, len(W2))
        self.h_decoder, self.h_encoder, self.slope = (W1.new_empty(M, len(W)) for W in (W1, W3, W3))
        self.optimizer = MapAdagrad(self.model, self.prior_weight)  # whose order is matrices, then biases

    @torch.no_grad()
    def differentiate(self, x: Tensor, eps: Tensor) -> Tensor:
        """The bound of eq. 10 at noise `eps` `(M, J)`, summed over `x` `(M, D)`, nats; the gradient of minus it is left
        in `weight_gradients` and `bias_gradients`."""
        W1, W2, W3, W4, W5 = self.weights
        b1, b2, b3, b4, b5 = self.biases
        in_W1, in_W2, in_W3, in_W4, in_W5 = self.weight_gradients
        in_b1, in_b2, in_b3, in_b4, in_b5 = self.bias_gradients

        h = torch.addmm(b3, x, W3.T, out=self.h_encoder).tanh_()
        mu, log_var = torch.addmm(b4, h, W4.T), torch.addmm(b5, h, W5.T)
        sigma = torch.exp(0.5 * log_var)
        z = mu + sigma * eps
        h_decoder = torch.addmm(b1, z, W1.T, out=self.h_decoder).tanh_()
        logits = torch.addmm(b2, h_decoder, W2.T, out=self.logits)
        log_likelihood = torch.dot(logits.view(-1), x.view(-1)) - F.softplus(logits).sum()
        bound = log_likelihood + 0.5 * (1 + log_var - mu * mu - sigma * sigma).sum()

        residual = torch.sigmoid_(logits).sub_(x)  # of minus log p(x|z), in the logits
        torch.mm(residual.T, h_decoder, out=in_W2)
        torch.sum(residual, 0, out=in_b2)
        slope = torch.mm(residual, W2, out=self.slope).mul_(1 - h_decoder * h_decoder)
        torch.mm(slope.T, z, out=in_W1)
        torch.sum(slope, 0, out=in_b1)
        in_z = slope @ W1
        in_mu = in_z + mu
        in_log_var = 0.5 * (in_z * eps * sigma + sigma * sigma - 1)
        for gradient, in_W, in_b in ((in_mu, in_W4, in_b4), (in_log_var, in_W5, in_b5)):
            torch.mm(gradient.T, h, out=in_W)
            torch.sum(gradient, 0, out=in_b)
        slope = torch.mm(in_mu, W4, out=self.slope).addmm_(in_log_var, W5).mul_(1 - h * h)
        torch.mm(slope.T, x, out=in_W3)
        torch.sum(slope, 0, out=in_b3)
        return bound

    @torch.no_grad()
    def step(self) -> None:
        """One minibatch and one Adagrad update."""
        M = self.run.batch_size
        rows = torch.randint(len(self.pixels), (M,), generator=self.generator)
        x = self.x.copy_(self.pixels[rows]).div_(self.scale)
        bound = self.differentiate(x, self.eps.normal_(generator=self.generator))
        step_size = self.step_size if self.steps >= self.run.warm_up else 0.0
        self.optimizer.step([*self.weight_gradients, *self.bias_gradients], step_size)
        self.steps += 1
        self.bound_sum += bound / M
