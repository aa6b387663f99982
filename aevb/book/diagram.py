"""One map of the VAE: every part with its equation and its function, each a link.

It is an inline SVG, so that it follows the page's theme, fits a phone and can be read aloud.
"""

from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from IPython.display import HTML

from aevb.colours import BLUE, ORANGE


class Part(NamedTuple):
    """A part of the map: its sign, box, equation and function, where each is explained, and its name aloud.

    `box` is x, y, width and height; `function` is empty for what no function computes.
    """

    sign: str
    box: tuple[int, int, int, int]
    equation: str
    page: str
    function: str
    aloud: str


# the parts by name, in the order in which a datapoint meets them
PARTS = {
    "datapoint": Part("x", (4, 8, 62, 56), "sec. 2.1", "03_the_problem.html", "aevb.datasets.load", "a datapoint x"),
    "encoder": Part("encoder", (92, 8, 120, 56), "eq. 12", "09_mlps.html#eq-12", "aevb.networks.GaussianMLP",
                    "the encoder, a network with weights phi"),
    "posterior": Part("μ, σ of q(z|x)", (238, 8, 118, 56), "eq. 9", "07_vae.html#eq-9", "aevb.model.VAE.posterior",
                      "mean and standard deviation of q of z given x"),
    "noise": Part("ε", (306, 102, 34, 56), "eq. 4", "06_reparameterization.html", "",
                  "noise epsilon from a standard normal distribution"),
    "latent": Part("z = μ + σ ⊙ ε", (182, 102, 104, 56), "eq. 4", "05_sgvb_estimators.html#eq-4",
                   "aevb.model.reparameterize", "the latent variables z"),
    "decoder": Part("decoder", (82, 102, 80, 56), "eq. 11", "09_mlps.html#eq-11", "aevb.networks.BernoulliMLP",
                    "the decoder, a network with weights theta"),
    "likelihood": Part("p(x|z)", (18, 102, 50, 56), "eq. 11", "03_the_problem.html", "",
                       "the distribution of x given z"),
    "fit": Part("log p(x|z)", (4, 196, 150, 56), "eq. 7", "05_sgvb_estimators.html#eq-7",
                "aevb.model.Decoder.log_likelihood", "the log-likelihood, the first term of the bound"),
    "divergence": Part("− KL(q(z|x) ‖ p(z))", (206, 196, 150, 56), "app. B", "08_kl_divergence.html",
                       "aevb.bounds.kl_to_prior", "minus the divergence from the prior, the second term"),
    "bound": Part("ℒ ≤ log p(x)", (92, 284, 176, 56), "eqs 3, 10", "04_variational_bound.html#eq-3",
                  "aevb.bounds.estimator_b", "the variational lower bound, the sum of both"),
}  # fmt: skip
# the arrows between them
ARROWS = (
    "M66 36H90", "M212 36H236", "M262 64V100", "M306 130H288", "M182 130H164", "M82 130H68", "M42 158V194",
    "M10 64V194", "M348 64V194", "M80 252V266H150V282", "M280 252V266H210V282",
)  # fmt: skip
# the look of the map, in the page's colours
STYLE = f"""
.aevb-map {{ --text: var(--pst-color-text-base, var(--jp-content-font-color1, #222832));
  --box: var(--pst-color-surface, var(--jp-layout-color2, #f3f4f5));
  max-width: 34rem; margin: 0.5rem auto; }}
.aevb-map svg {{ display: block; width: 100%; height: auto; }}
.aevb-map text {{ fill: var(--text); font: 11px sans-serif; text-anchor: middle; }}
.aevb-map .sign {{ font-size: 13px; font-weight: 600; }}
.aevb-map rect {{ fill: var(--box); stroke: var(--text); stroke-width: 0.8; }}
.aevb-map path {{ fill: none; stroke: var(--text); stroke-width: 1.2; }}
.aevb-map a:hover text, .aevb-map a:focus text {{ text-decoration: underline; }}
.aevb-map .lit rect {{ stroke: {ORANGE}; stroke-width: 3; }}
.aevb-map .phi rect {{ fill: color-mix(in srgb, {BLUE} 22%, var(--box)); }}
.aevb-map .theta rect {{ fill: color-mix(in srgb, {ORANGE} 22%, var(--box)); }}
"""
KINDS = {"encoder": "phi", "posterior": "phi", "decoder": "theta", "likelihood": "theta"}  # whose weights make it


def show(*lit: str) -> HTML:
    """The map, with the parts called `lit` marked. Raises ValueError for a part that is not in PARTS."""
    if unknown := set(lit) - set(PARTS):
        raise ValueError(f"no part {', '.join(sorted(unknown))} in the map: choose among {', '.join(PARTS)}")
    return HTML(f'<div class="aevb-map"><style>{STYLE}</style>{svg(lit)}</div>')


def svg(lit: tuple[str, ...] = ()) -> str:
    """The drawing itself, with its title and description for a screen reader: of the parts that are lit, or of all."""
    aloud = "; ".join(PARTS[name].aloud for name in lit or PARTS)
    description = f"{'The map of the front page. Marked here' if lit else 'In order'}: {aloud}."
    arrows = "".join(f'<path d="{path}" marker-end="url(#aevb-tip)"/>' for path in ARROWS)
    parts = "".join(_drawn(name, part, name in lit) for name, part in PARTS.items())
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 360 344" role="group" '
        'aria-labelledby="aevb-map-title aevb-map-description">'
        '<title id="aevb-map-title">The variational auto-encoder, part by part</title>'
        f'<desc id="aevb-map-description">{escape(description)}</desc>'
        '<defs><marker id="aevb-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
        'orient="auto"><path d="M1 1L7 4L1 7"/></marker></defs>'
        f"{arrows}{parts}</svg>"
    )


def _drawn(name: str, part: Part, lit: bool) -> str:
    x, y, width, height = part.box
    middle = x + width / 2
    classes = " ".join(filter(None, (KINDS.get(name, ""), "lit" * lit)))
    function = part.function.rsplit(".", 1)[-1]
    code = f'<text x="{middle}" y="{y + 49}">{function}</text>'
    return (
        f'<g class="{classes}"><a href={quoteattr(part.page)}>'
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'
        f'<text class="sign" x="{middle}" y="{y + 20}">{escape(part.sign)}</text>'
        f'<text x="{middle}" y="{y + 35}">{part.equation}</text></a>'
        + (f'<a href="api.html#{part.function}">{code}</a>' if function else "")
        + "</g>"
    )
