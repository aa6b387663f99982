"""How fast a step could be: its matrix products alone, for AEVB and for wake-sleep, whatever the likelihood.

The operands are random numbers of their own. The weights of a model in training would not do: those of pixels that are
always dark can decay into denormal numbers, on which a product of random data takes many times as long.
"""

import torch
from torch import Tensor, nn

from aevb.model import VAE
from aevb.networks import Affine, BernoulliMLP, GaussianMLP

Product = tuple[Tensor, Tensor, Tensor]  # left, right, and where their product is written


def networks(model: nn.Module) -> tuple[GaussianMLP, BernoulliMLP]:
    """Encoder and decoder of a model of MNIST, whose decoder has one layer on top."""
    assert isinstance(model, VAE) and isinstance(model.decoder, BernoulliMLP)
    return model.encoder, model.decoder


def of_layer(layer: Affine, batch_size: int) -> tuple[Product, Product, Product]:
    """A linear layer's products: its output forward, the gradients in its weights and in its input backward."""
    n_out, n_in = layer.weight.shape
    u, W, slope = torch.rand(batch_size, n_in), torch.rand(n_out, n_in), torch.rand(batch_size, n_out)
    forward, in_weight, in_input = torch.empty_like(slope), torch.empty_like(W), torch.empty_like(u)
    return (u, W.T, forward), (slope.T, u, in_weight), (slope, W, in_input)


def of_network(network: nn.Module, batch_size: int) -> tuple[list[Product], list[Product], list[Product]]:
    """The products of an MLP forward, backward to the weights, and one more to the gradient in its input."""
    assert isinstance(network, BernoulliMLP | GaussianMLP)
    heads = (network.logit,) if isinstance(network, BernoulliMLP) else (network.mu, network.log_var)
    hidden, *on_top = (of_layer(layer, batch_size) for layer in (network.hidden, *heads))
    forward = [hidden[0], *(head[0] for head in on_top)]
    backward = [product for head in on_top for product in head[1:]] + [hidden[1]]
    return forward, backward, [hidden[2]]


def products(algorithm: str, model: nn.Module, batch_size: int) -> list[Product]:
    """Every matrix product in one step of "aevb" or "wake-sleep", in their order, all memory allocated once."""
    assert isinstance(model, VAE)
    encode, train_encoder, _ = of_network(model.encoder, batch_size)
    decode, train_decoder, to_z = of_network(model.decoder, batch_size)
    return {
        "aevb": encode + decode + train_decoder + to_z + train_encoder,
        "wake-sleep": encode + decode + train_decoder + decode + encode + train_encoder,  # the last three on a dream
    }[algorithm]


def flops(some: list[Product]) -> int:
    """Floating-point operations of `products`, an addition and a multiplication being two."""
    return sum(2 * left.shape[0] * left.shape[1] * right.shape[1] for left, right, _ in some)


def multiply(some: list[Product]) -> None:
    """Compute `products`, one after another."""
    for left, right, out in some:
        torch.mm(left, right, out=out)
