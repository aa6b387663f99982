"""Figures and tables of the page on speed, from the recorded benchmark."""

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aevb.colours import BLUE, GREY, ORANGE, SKY, YELLOW
from aevb.reproduction import leads, results, tables

MNIST = leads.PAPER_SIZE  # the benchmark's names of its settings
_FACES = "Frey Face, 200 hidden, 20 latents, M = 100"
_SMALL = "MNIST, 100 hidden, 3 latents, M = 100"
FLOOR, AEVB, AUTOGRAD = "AEVB, products in turn", "AEVB", "AEVB by autograd"
_AIM = 75  # per cent of a step that should be matrix products
# the steps from the peak to autograd, and what each adds
_LADDER = {
    "AEVB, products at peak": "",
    FLOOR: "narrow products, and fetching their operands",
    AEVB: "everything that is not a product: drawing, tanh, likelihood, Adagrad, Python",
    AUTOGRAD: "automatic differentiation: small kernels, fresh memory, bookkeeping",
}


def rows(quantity: str, setting: str = MNIST) -> pd.DataFrame:
    """What was measured of a quantity in a setting, by what it was measured of: `median`, `low`, `high`."""
    record, _ = results.table("speed")
    chosen = record[(record["quantity"] == quantity) & (record["setting"] == setting)]
    assert len(chosen), f"no {quantity!r} of {setting!r} is recorded"
    return chosen.set_index("what")


def spread(row: pd.Series, digits: int = 1) -> str:
    """A median with the least and the most."""
    return f"{row['median']:.{digits}f} ({row['low']:.{digits}f} to {row['high']:.{digits}f})"


def _errors(shown: pd.DataFrame) -> list[pd.Series]:
    """How far the least and the most are from the median, as matplotlib wants it."""
    return [shown["median"] - shown["low"], shown["high"] - shown["median"]]


def _bars(axis: Axes, shown: pd.DataFrame, **style: object) -> None:
    """Horizontal bars of medians, with lines from the least to the most."""
    beside = {"xerr": _errors(shown), "error_kw": {"elinewidth": 1, "ecolor": "#333333"}}
    axis.barh(shown.index, shown["median"], **beside, **style)  # type: ignore[arg-type] # matplotlib's own names
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)


def _steps() -> dict[str, str]:
    """The steps that are compared, each with its colour."""
    peers = {name: ORANGE for name in rows("time a step").index if name.startswith("Pyro")}
    return {FLOOR: GREY, AEVB: BLUE, AUTOGRAD: SKY} | peers | {"tutorial loop": YELLOW}


def floors(names: list[str]) -> Markdown:
    """The table of the two floors of each algorithm, in milliseconds per step."""
    times = rows("time a step")
    kinds = ("products at peak", "products in turn")
    of_names = [(name, *(spread(times.loc[f"{name}, {kind}"], 2) for kind in kinds)) for name in names]
    return tables.markdown_table(["ms per step", "at peak", "in turn"], of_names)


def step() -> Figure:
    """The time of one step of AEVB on MNIST, ours and others', with the floor."""
    shown = rows("time a step").loc[list(_steps())]
    figure, axis = plt.subplots(figsize=(7.5, 3.2))
    _bars(axis, shown, color=_steps().values())
    for place, ms in enumerate(shown["median"]):
        axis.annotate(f"{ms:.1f}", (0, place), (4, 0), textcoords="offset points", color="white", va="center")
    axis.axvline(shown.loc[FLOOR, "median"], color=GREY, linestyle="--")
    axis.set(xlabel="milliseconds per step", xlim=(0, 1.04 * shown["high"].max()))
    return figure


def steps() -> Markdown:
    """The table of the steps of `step`: each one's time, and how much longer it is than the library's."""
    over = {name: spread(row, 2) for name, row in rows("time over the library's").iterrows()}
    times = rows("time a step")["median"].map("{:.1f}".format)
    shown = [(name, times[name], over.get(name, "1")) for name in list(_steps())[1:]]
    return tables.markdown_table(["", "ms per step", "time over AEVB's"], shown)


def by_hand(names: list[str]) -> Markdown:
    """The table of each algorithm's step by hand on digits and faces: its floor, if as aimed, and autograd's step."""
    of_steps = []
    for setting in (MNIST, _FACES):
        times = rows("time a step", setting)["median"].map("{:.1f}".format)
        shares = rows("share of products in turn", setting)["median"]
        for name in names:
            met = f"{shares[name]:.0f} %, {'met' if shares[name] >= _AIM else 'missed'}"
            over = spread(rows("time over the library's", setting).loc[f"{name} by autograd"], 2)
            of_steps.append((f"{name}, {setting.split(',')[0]}", times[name], met, over))
    header = ["", "ms per step", f"the floor is (aim: {_AIM} %)", "by autograd over by hand"]
    return tables.markdown_table(header, of_steps)


def ladder() -> Markdown:
    """The table of what lies between the peak and the step by autograd."""
    gaps = rows("time a step").loc[list(_LADDER), "median"].diff().iloc[1:]
    shown = [(name, f"{gap:+.1f}", _LADDER[name]) for name, gap in gaps.items()]
    return tables.markdown_table(["to", "ms", "which is"], shown)


def tried() -> Markdown:
    """The table of ideas for a faster step by autograd: the time over that of the plain step."""
    compiling = rows("time of the first step").loc["torch.compile", "median"]
    notes = {"torch.compile": f"the first step takes {compiling:.0f} s"}
    shown = [
        (name, spread(row, 2), _effect(row), notes.get(name, ""))
        for name, row in rows("time over the plain step's").drop("plain").iterrows()
    ]
    return tables.markdown_table(["idea", "time over the plain step's", "", ""], shown)


def _effect(row: pd.Series) -> str:
    """Whether the rounds tell it from nothing at all."""
    if row["low"] <= 1 <= row["high"]:
        return "open"
    return f"{'faster' if row['high'] < 1 else 'slower'} in every round"


def sizes(hidden: int, batch: int) -> Figure:
    """The time of a step against hidden units, at `batch`, and against the minibatch, at `hidden`, on MNIST."""
    record, _ = results.table("speed")
    sized = record["setting"].str.extract(r"MNIST, (\d+) hidden, 20 latents, M = (\d+)").astype(float)
    sized = record.assign(hidden=sized[0], batch=sized[1])
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6), sharey=True)
    _against(left, "hidden", sized[sized["batch"] == batch])
    _against(right, "batch", sized[sized["hidden"] == hidden])
    left.set(xlabel="hidden units", ylabel="milliseconds per step")
    right.set_xlabel("minibatch")
    left.legend(loc="upper left")
    return figure


def _against(axis: Axes, size: str, chosen: pd.DataFrame) -> None:
    """The steps' times against one size, and the share of each that the floor is."""
    chosen = chosen.sort_values(size).set_index("what")
    steps = chosen[chosen["quantity"] == "time a step"]
    for name, style, colour in ((AEVB, "o-", BLUE), (AUTOGRAD, "^-", SKY), (FLOOR, "s--", GREY)):
        line = steps.loc[name]
        axis.errorbar(line[size], line["median"], _errors(line), fmt=style, color=colour, label=name)
    share = chosen[chosen["quantity"] == "share of products in turn"].loc[AEVB]
    for x, y, part in zip(share[size], steps.loc[FLOOR, "low"], share["median"], strict=True):
        axis.annotate(f"{part:.0f} %", (x, y), xytext=(0, -14), textcoords="offset points", ha="center")
    axis.set(xscale="log", yscale="log")
    axis.set_xticks(share[size], [f"{x:.0f}" for x in share[size]])
    axis.set_yticks([1, 3, 10, 30], ["1", "3", "10", "30"])
    axis.minorticks_off()
    axis.margins(x=0.12, y=0.15)


def scaling() -> Figure:
    """The steps of all runs together over those of one run, for runs and threads; grey is perfect scaling."""
    shown = rows("steps over those of one run")
    ways = shown.index.str.extract(r"runs at once: (\d+), threads each: (\d+)").astype(int)
    shown.index = [
        f"{n} run{'s' * (n > 1)}, {t} thread{'s' * (t > 1)}{' each' * (n > 1)}: {row.median:.2f}"
        for (n, t), row in zip(ways.itertuples(index=False), shown.itertuples(), strict=True)
    ]
    figure, axis = plt.subplots(figsize=(7, 0.9 + 0.42 * len(ways)))
    axis.barh(shown.index, ways.prod(axis=1).clip(upper=ways[0].max()), color="#dddddd")
    _bars(axis, shown, height=0.5, color=BLUE)
    axis.set_xlabel("steps of all runs together, over those of one run")
    return figure


def minutes(names: list[str], batch: int) -> str:
    """The minutes per million training samples of each algorithm on digits and faces, and of MCEM, in words."""
    pairs = [(name, setting) for setting in (MNIST, _FACES) for name in names] + [("MCEM", _SMALL)]
    return "; ".join(
        f"{name} ({setting.split(' hidden')[0]} hidden): "
        f"{rows('time a step', setting).loc[name, 'median'] / batch / 60 * 1e3:.1f}"
        for name, setting in pairs
    )
