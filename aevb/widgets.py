"""What a reader can drag. Each widget computes in the reader's browser what the book's functions compute in Python.

A widget holds numbers and the script that works on them, `javascript/NAME.js` after what all share, so it needs
no kernel in the page and works in a live notebook too. Trained weights travel in half precision (`pack`).
"""

import math
import re
import zlib
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets
from torch import Tensor

from aevb import plots
from aevb.data import TITLES, Dataset
from aevb.model import VAE

SCRIPTS = Path(__file__).parent / "javascript"
PALETTE = ("BLUE", "ORANGE", "GREEN", "PINK", "SKY")
CODES = 2000  # encoded datapoints that a page carries


def script(name: str) -> str:
    """The ES module of a widget, which may import nothing: `shared.js` stands where it is imported."""
    shared, own = ((SCRIPTS / f"{file}.js").read_text(encoding="utf-8") for file in ("shared", name))
    shared = re.sub(r"^export ", "", shared, flags=re.MULTILINE)
    return re.sub(r'^import \{[^}]*\} from "\./shared\.js";\n', lambda _: shared, own, flags=re.MULTILINE)


def style() -> str:
    """The style sheet of all widgets, with the palette of the figures."""
    colours = "".join(f"  --aevb-{name.lower()}: {getattr(plots, name)};\n" for name in PALETTE)
    return f".aevb-widget {{\n{colours}}}\n" + (SCRIPTS / "widgets.css").read_text(encoding="utf-8")


def pack(values: Tensor) -> bytes:
    """Numbers in half precision, deflated, all high bytes before all low ones: a sixth is saved. Shapes are lost.

    Raises ValueError where half precision cannot hold one.
    """
    halves = values.detach().cpu().flatten().half().numpy()
    if not np.isfinite(halves).all():
        raise ValueError("a number is not finite in half precision: it cannot go into a page")
    return zlib.compress(halves.astype("<f2").view(np.uint8).reshape(-1, 2)[:, ::-1].T.tobytes(), 9)


def unpack(packed: bytes) -> Tensor:
    """What `pack` was given, `(n,)` float32, rounded to half precision."""
    planes = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(2, -1)
    return torch.from_numpy(np.ascontiguousarray(planes[::-1].T).view("<f2").flatten().astype(np.float32))


def pack_network(model: VAE, parts: tuple[str, ...]) -> dict:
    """`layout`, a list of [name, shape], and `weights`: the tensors of `model` whose names begin with one of `parts`."""
    kept = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(parts)}
    layout = [[name, list(tensor.shape)] for name, tensor in kept.items()]
    return {"layout": layout, "weights": pack(torch.cat([tensor.flatten() for tensor in kept.values()]))}


def unpack_network(network: dict) -> dict[str, Tensor]:
    """The tensors that `pack_network` was given, by name, rounded to half precision."""
    sizes = [math.prod(shape) for _, shape in network["layout"]]
    flat = unpack(network["weights"]).split(sizes)
    return {name: part.reshape(shape) for (name, shape), part in zip(network["layout"], flat, strict=True)}


def quadrature(points: int) -> dict[str, list[float]]:
    """Gauss-Hermite `nodes` and `masses` for expectations under N(0, 1): exact for polynomials of degree 2n - 1."""
    nodes, masses = np.polynomial.hermite_e.hermegauss(points)
    return {"nodes": nodes.tolist(), "masses": (masses / masses.sum()).tolist()}


class Widget(anywidget.AnyWidget):
    """A widget whose name in a notebook does not change from one execution to the next."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Explorer(Widget):
    """The latent plane of a trained VAE with two latents: p(x|z) where the reader drags z, q(z|x) of what is drawn.

    `z` is the point and `dataset`, "mnist" or "frey", what is shown; both follow the reader in a live notebook.
    """

    _esm = script("explorer")
    _css = style()
    models = traitlets.Dict().tag(sync=True)
    quadrature = traitlets.Dict(quadrature(5)).tag(sync=True)
    dataset = traitlets.Unicode("mnist").tag(sync=True)
    z = traitlets.List([0.0, 0.0]).tag(sync=True)


@torch.no_grad()
def explorer(models: dict[str, VAE], datasets: dict[str, Dataset]) -> Explorer:
    """The explorer of trained models with two latents by dataset: "mnist", and perhaps "frey".

    `datasets` has MNIST, for its test digits and their labels; a model without its data is shown without codes.
    """
    contents = {}
    for name, model in models.items():
        digits = name == "mnist"
        parts = ("decoder", "encoder") if digits else ("decoder.hidden", "decoder.mu")
        contents[name] = pack_network(model, parts) | {
            "title": TITLES[name],
            "shape": list(plots.IMAGE_SHAPES[name]),
            "light": not digits,
            "extent": 3.0,
        }
        if name in datasets:
            dataset = datasets[name]
            codes, _ = model.posterior(dataset.unit(dataset.test[:CODES]))
            contents[name] |= {"codes": pack(codes), "extent": max(3.0, math.ceil(2 * codes.abs().max().item()) / 2)}
    digits = datasets["mnist"]
    labels = digits.labels["test"]
    first = [int((labels == digit).nonzero()[0]) for digit in range(10)]
    contents["mnist"] |= {
        "labels": labels[:CODES].to(torch.uint8).numpy().tobytes(),
        "marks": plots.DIGITS,
        "examples": digits.test[first].numpy().tobytes(),
    }
    return Explorer(models=contents)
