"""Widgets that a reader can drag. Each repeats in the reader's browser a computation of the book's functions.

A widget holds numbers and the script that works on them, `javascript/NAME.js` after the shared one. It needs no kernel
in the page, and works in a live notebook too. Trained weights travel in half precision (`pack`).
"""

import io
import math
import re
import zlib
from pathlib import Path

import anywidget
import ipywidgets
import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from aevb import datasets, gaps
from aevb.colours import BLUE, GREEN, ORANGE, SKY
from aevb.datasets import Images
from aevb.model import VAE, LinearGaussian
from aevb.reproduction import figures
from aevb.run import Run
from aevb.trainer import Trainer

SCRIPTS = Path(__file__).parent / "javascript"  # the folder of the widgets' scripts
# the colours of the widgets, by the names that scripts have for them
PALETTE = {"deep": BLUE, "pale": SKY, "orange": ORANGE, "green": GREEN}
CODES = 2000  # encoded datapoints that a page carries
EVERY = 5000  # training samples between two points of a live curve


def script(name: str) -> str:
    """The ES module of a widget, with other scripts in place of their imports: a widget may import nothing."""
    within: set[str] = set()

    def text(file: str) -> str:
        own = (SCRIPTS / f"{file}.js").read_text(encoding="utf-8")
        return re.sub(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', in_place, own, flags=re.MULTILINE)

    def in_place(found: re.Match[str]) -> str:
        if found[1] in within:
            return ""
        within.add(found[1])
        return re.sub(r"^export ", "", text(found[1]), flags=re.MULTILINE)

    return text(name)


def style() -> str:
    """The style sheet of all widgets, with the palette of the figures."""
    colours = "".join(f"  --aevb-{name}: {colour};\n" for name, colour in PALETTE.items())
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
    """The values that `pack` was given, `(n,)` float32, rounded to half precision."""
    planes = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(2, -1)
    return torch.from_numpy(np.ascontiguousarray(planes[::-1].T).view("<f2").flatten().astype(np.float32))


def pack_network(model: VAE, parts: tuple[str, ...]) -> dict:
    """`layout`, a list of [name, shape], and `weights`: the tensors whose names begin with one of `parts`."""
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
    nodes, masses = gaps.gauss_hermite(points)
    return {"nodes": nodes.tolist(), "masses": masses.tolist()}


class Widget(anywidget.AnyWidget):
    """A widget whose name in a notebook does not change from one execution to the next."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Explorer(Widget):
    """The latent plane of a trained VAE with two latents: p(x|z) where the reader drags z, q(z|x) of what is drawn.

    `z` is the point and `dataset` the name of the one shown; both follow the reader in a live notebook, and so does
    `gap`: log p(x) of the drawing (`log_px`), the `bound` of the encoder's q and that of the `best` diagonal Gaussian.
    """

    _esm = script("explorer")
    _css = style()
    models = traitlets.Dict().tag(sync=True)
    quadrature = traitlets.Dict({"coarse": quadrature(5), "fine": quadrature(15)}).tag(sync=True)
    gap = traitlets.Dict().tag(sync=True)
    dataset = traitlets.Unicode().tag(sync=True)
    z = traitlets.List([0.0, 0.0]).tag(sync=True)


@torch.no_grad()
def explorer(models: dict[str, VAE], images: dict[str, Images]) -> Explorer:
    """The explorer of trained models with two latents, by dataset.

    A model without its `images` is shown without codes. One dataset must be of labelled digits: the reader can draw
    one.
    """
    contents = {}
    for name, model in models.items():
        dataset, labelled = datasets.get(name), name in images and bool(images[name].labels)
        parts = ("decoder", "encoder") if labelled else ("decoder.hidden", "decoder.mu", "decoder.logit")
        contents[name] = pack_network(model, parts) | {
            "title": dataset.title,
            "shape": list(dataset.image_shape),
            "light": dataset.light,
            "extent": 3.0,
        }
        if name in images:
            codes, _ = model.posterior(images[name].unit(images[name].test[:CODES]))
            contents[name] |= {"codes": pack(codes), "extent": max(3.0, math.ceil(2 * codes.abs().max().item()) / 2)}
        if labelled:
            contents[name] |= _labelled(images[name])
    return Explorer(models=contents, dataset=next(iter(contents)))


def _labelled(digits: Images) -> dict:
    labels = digits.labels["test"]
    first = [int((labels == digit).nonzero()[0]) for digit in range(10)]
    return {
        "labels": labels[:CODES].to(torch.uint8).numpy().tobytes(),
        "marks": figures.DIGITS,
        "examples": digits.test[first].numpy().tobytes(),
    }


class Bound(Widget):
    """Equation 1 for one datapoint of a one-dimensional linear-Gaussian model, x = w z + noise of deviation `s`.

    `q` is [mean, standard deviation] of the Gaussian that the reader drags.
    """

    _esm = script("bound")
    _css = style()
    w: traitlets.List[float] = traitlets.List().tag(sync=True)
    x: traitlets.List[float] = traitlets.List().tag(sync=True)
    s = traitlets.Float().tag(sync=True)
    log_evidence = traitlets.Float().tag(sync=True)
    q = traitlets.List([0.5, 0.4]).tag(sync=True)


@torch.no_grad()
def bound(model: LinearGaussian, x: Tensor) -> Bound:
    """The bound of the datapoint `x` `(1, D)`. Raises ValueError where `model` has more than one latent."""
    if model.latent_dim != 1:
        raise ValueError(f"q is dragged in the plane of its mean and deviation: one latent, not {model.latent_dim}")
    log_evidence = model.log_evidence(x)[0].item()
    return Bound(w=model.W[:, 0].tolist(), x=(x[0] - model.b).tolist(), s=model.s, log_evidence=log_evidence)


class Reparameterization(Widget):
    """Samples z = mu + sigma eps, and two estimators of the gradient in mu of E[z^2], with an estimate per `eps`.

    `q` is [mu, sigma], which the reader drags; the noise stays.
    """

    _esm = script("reparameterization")
    _css = style()
    eps: traitlets.List[float] = traitlets.List().tag(sync=True)
    q = traitlets.List([1.0, 0.5]).tag(sync=True)


def reparameterization(*, generator: torch.Generator) -> Reparameterization:
    """The trick with 150 draws of noise, rounded to three decimals."""
    eps = torch.randn(150, generator=generator, dtype=torch.float64)
    return Reparameterization(eps=[round(value, 3) for value in eps.tolist()])


class Trajectories(Widget):
    """Hybrid Monte Carlo on the posterior of one digit under a Bernoulli decoder with two latents.

    `z` is where a trajectory starts, `r` its momentum; `step_size` and `n_leapfrog` are the reader's. No step size
    is varied here, unlike in `hmc.step`. `lattice` is the posterior's density over `region`, from 0 to 255.
    """

    _esm = script("trajectories")
    _css = style()
    network = traitlets.Dict().tag(sync=True)
    x = traitlets.Bytes().tag(sync=True)
    lattice = traitlets.Bytes().tag(sync=True)
    region: traitlets.List[float] = traitlets.List().tag(sync=True)
    tuned = traitlets.Float().tag(sync=True)
    z: traitlets.List[float] = traitlets.List().tag(sync=True)
    r = traitlets.List([0.8, 0.6]).tag(sync=True)
    step_size = traitlets.Float().tag(sync=True)
    n_leapfrog = traitlets.Int(4).tag(sync=True)


@torch.no_grad()
def trajectories(model: VAE, pixels: Tensor, draws: Tensor, step_size: float) -> Trajectories:
    """Hybrid Monte Carlo on p(z|x) of the digit `pixels` `(D,)` uint8, around `draws` `(n, 2)` from it.

    The reader begins at the tuned `step_size` and at the last of the draws.
    """
    n, x = 120, pixels.float() / 255
    middle, half = (draws.amax(0) + draws.amin(0)) / 2, 0.7 * (draws.amax(0) - draws.amin(0)).max()
    region = torch.stack([middle - half, middle + half], -1)  # (2, 2)
    across, up = (low + (high - low) * (torch.arange(n) + 0.5) / n for low, high in region)
    z = torch.cartesian_prod(up, across).flip(-1)  # a row after the other
    log_density = model.log_likelihood_table(x[None], z)[:, 0] + model.log_prior(z)
    density = torch.exp(log_density - log_density.max())
    return Trajectories(
        network=pack_network(model, ("decoder",)),
        x=pixels.numpy().tobytes(),
        lattice=(255 * density).round().to(torch.uint8).numpy().tobytes(),
        region=[round(edge, 3) for edge in region.flatten().tolist()],
        tuned=float(f"{step_size:.3g}"),
        step_size=float(f"{step_size:.3g}"),
        z=[round(value, 2) for value in draws[-1].tolist()],
    )


class TrainingPanel(ipywidgets.VBox):
    """Controls that train a VAE on MNIST in this kernel and draw its bound as it goes. For a live notebook only.

    `curves` maps the settings of each training to its points, (samples, mean bound since the last point, nats).
    """

    def __init__(self) -> None:
        style = {"style": {"description_width": "7rem"}}
        self.hidden = ipywidgets.IntSlider(200, 50, 500, 50, description="hidden units", **style)
        self.latent_dim = ipywidgets.IntSlider(10, 1, 50, description="latents", **style)
        self.step_size = ipywidgets.Dropdown(options=Run.step_sizes, value=0.02, description="step size", **style)
        self.samples = ipywidgets.IntSlider(50_000, 10_000, 500_000, 10_000, description="samples", **style)
        self.button = ipywidgets.Button(description="Train")
        self.button.on_click(lambda _: self.train())
        self.picture = ipywidgets.Image(format="png")
        self.curves: dict[str, list[tuple[int, float]]] = {}
        super().__init__([self.hidden, self.latent_dim, self.step_size, self.samples, self.button, self.picture])

    def train(self) -> None:
        """Train at the present settings; a run whose bound is no longer a number ends there."""
        step_size = self.step_size.value
        run = Run("mnist", "aevb", self.latent_dim.value, self.hidden.value, step_sizes=(step_size,))
        trainer = Trainer(run, step_size)
        points = self.curves[f"{run.hidden} hidden, {run.latent_dim} latents, step {step_size}"] = []
        while trainer.samples < self.samples.value and all(math.isfinite(bound) for _, bound in points):
            trainer.advance(trainer.samples + EVERY)
            points.append((trainer.samples, trainer.running_average()))
            trainer.reset_average()
            self.picture.value = self.drawn()

    def drawn(self) -> bytes:
        """All curves so far, as a PNG."""
        figure = Figure(figsize=(7.0, 3.2), layout="constrained")
        axis = figure.subplots()
        for label, points in self.curves.items():
            axis.plot(*zip(*points, strict=True), "o-", markersize=3, label=label)
        axis.set(xlabel="training samples", ylabel="bound (nats per datapoint)")
        axis.legend()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()
