"""A widget of the recorded readings: change a choice that the paper leaves open, and see the curve move.

It shows what is recorded and nothing else; what was not run says so.
"""

import html
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import traitlets

from aevb.book.widgets import Widget, script, style
from aevb.datasets import DATASETS
from aevb.reproduction import experiments, figures, results, settings
from aevb.reproduction.curves import Curves
from aevb.reproduction.readings import BASELINE
from aevb.reproduction.settings import FIGURE2, FIGURE2_STEP_SIZE, LATENT_DIMS, MINIBATCHES, RIVALS

PLACE = 1_000_000  # samples at which curves are compared
PAGE = "19_what_the_paper_does_not_say.html"  # named in links: the theme takes a bare #... for a selector
FRAME = (3e4, 3e7)  # samples between which curves have to fit into the frame


class Choice(NamedTuple):
    """A question that the paper leaves open: its words and `where` they stand, if any, and two answers to it.

    `baseline` is the baseline's, by dataset where the datasets differ, `ours` that of this book's figure 2, empty for
    questions that are asked beside it; `note` is what else a reader must know.
    """

    where: str
    says: str
    baseline: str | dict[str, str]
    ours: str
    note: str = ""


def _of_figure_2(setting: str, words: Callable[[Any], str]) -> str:
    """What figure 2's runs have for one `setting`: the values that few have, with their curves, and then the usual one.

    `words` are those of a value.
    """
    curves: dict[Any, list[str]] = {}
    for run in settings.figure2(1, tuple(FIGURE2)):
        if run.algorithm in RIVALS and run.latent_dim == min(LATENT_DIMS[run.dataset]):
            title = figures.title(run.dataset, run.algorithm)
            curves.setdefault(getattr(run, setting), []).append(title)
    usual = max(curves, key=lambda value: len(curves[value]))
    others = [f"{words(value)} ({'; '.join(of)})" for value, of in curves.items() if value != usual]
    return "; ".join([*others, f"otherwise {words(usual)}" if others else words(usual)])


# the questions in the order of the panel, by the names that readings have
CHOICES = {
    "warm-up": Choice("", "", {name: f"{panel.warm_up} steps" for name, panel in FIGURE2.items()},
                      _of_figure_2("warm_up", "{} steps".format)),
    "initial weights": Choice("section 5", "were initialized by random sampling from N(0, 0.01)", "s.d. 0.01",
                              "s.d. 0.01"),
    "step size": Choice("section 5", "were chosen from {0.01, 0.02, 0.1} based on performance on the training set in "
                        "the first few iterations", f"{FIGURE2_STEP_SIZE}",
                        _of_figure_2("step_sizes", "{0[0]}".format)),
    "weight prior": Choice("section 5", "plus a small weight decay term corresponding to a prior p(\u03b8) = N(0, I)",
                           "M/N of it, on the weights of both networks",
                           _of_figure_2("prior_on_encoder", ("on the decoder alone", "on both networks").__getitem__)),
    "size of a minibatch": Choice("section 5", "Minibatches of size M = 100 were used", "100",
                                  _of_figure_2("batch_size", str)),
    "samples and minibatch": Choice("section 2.3", "the number of samples L per datapoint can be set to 1 as long as "
                                    "the minibatch size M was large enough, e.g. M = 100", "L = 1, M = 100", ""),
    "minibatches": Choice("algorithm 1", "Random minibatch of M datapoints", "with replacement", "with replacement"),
    "pixels": Choice("appendix C.1", "a multivariate Bernoulli", "grey levels as targets", "grey levels as targets",
                     "The bounds of other pixels are bounds of other data."),
    "grey scale": Choice("", "", "divided by 256", "divided by 256 (faces)", "Each scale has a density of its own."),
    "training digits": Choice("", "", "50,000", "50,000"),
    "log-variance of q": Choice("appendix C.2", "log \u03c3\u00b2 = W\u2085h + b\u2085", "learnt as all else is",
                                _of_figure_2("slow_log_var", ("as all else", "from zero, at a tenth").__getitem__)),
    "dreams": Choice("", "", "drawn from p(x|z)", "drawn from p(x|z)"),
    "hidden units": Choice("section 5", "not very sensitive to these choices",
                           {name: f"{DATASETS[name].hidden}" for name in FIGURE2}, ""),
}  # fmt: skip


class Choices(Widget):
    """The recorded readings. `question` and `answer` are what is chosen, in the panel of the other three traits.

    An empty `answer` is the baseline's. All five follow the reader in a live notebook.
    """

    _esm = script("choices")
    _css = style()
    panels: traitlets.List[dict] = traitlets.List().tag(sync=True)
    questions: traitlets.List[dict] = traitlets.List().tag(sync=True)
    place = traitlets.Int(PLACE).tag(sync=True)
    question = traitlets.Unicode("warm-up").tag(sync=True)
    answer = traitlets.Unicode("").tag(sync=True)
    dataset = traitlets.Unicode("mnist").tag(sync=True)
    algorithm = traitlets.Unicode("wake-sleep").tag(sync=True)
    latent_dim = traitlets.Int(20).tag(sync=True)


def named(curves: Curves, question: str, answer: str) -> Curves:
    """`curves` as those of a reading, which has these names."""
    return Curves(curves.table.assign(question=question, answer=answer), experiments.READING)


def recorded(base: Curves) -> list[tuple[Curves, Curves]]:
    """The recorded readings, with columns `question` and `answer`, each beside the unchanged runs to compare it with.

    `base` are the unchanged runs in every panel of figure 2. The first three are the records of readings, the others
    what else of the record answers a question. Later ones take the place of earlier ones of the same name that are no
    longer.
    """
    record, book = results.recorded("readings"), results.recorded("figure2")
    sizes = results.recorded("figure2-minibatches")
    tried = [question for question in record.table["question"].unique() if question != BASELINE]
    others = [
        named(results.recorded("figure2-step-sizes").select(step_size=0.01), "step size", "0.01"),
        named(book.select(dataset="mnist", algorithm="aevb"), "warm-up", "10 steps"),
        named(book.select(dataset="mnist", algorithm="wake-sleep"), "log-variance of q", "from zero, at a tenth"),
        named(book.select(dataset="frey", algorithm="wake-sleep"), "weight prior", "on the decoder alone, no warm-up"),
        named(sizes.select(batch_size=MINIBATCHES[0]), "warm-up", "100 steps"),
        *(named(sizes.select(batch_size=m), "size of a minibatch", f"{m}, warm-up 100") for m in MINIBATCHES[1:]),
        named(book.select(dataset="frey", algorithm="aevb"), "size of a minibatch", "300, warm-up 100"),
    ]
    return [
        (record.select(question=tried), record.select(question=BASELINE)),
        *((results.recorded(name), base) for name in ("readings-by-latents", "readings-plateau")),
        *((curves, base) for curves in others),
    ]


def drawn(curves: Curves) -> dict:
    """One curve by `samples`, in two decimals: mean and range over its seeds as far as all go.

    `tail` is the mean of those that go on alone.
    """
    shared, furthest = curves.shared(), curves.furthest()
    seeds = shared.table.groupby("samples")[curves.kind.value]
    parts = {"mean": seeds.mean(), "low": seeds.min(), "high": seeds.max()}
    n = curves.table["seed"].nunique()
    drawn: dict[str, Any] = {"samples": parts["mean"].index.tolist(), "seeds": n}
    drawn |= {name: part.round(2).tolist() for name, part in parts.items() if name == "mean" or n > 1}
    if len(furthest) and furthest.end > shared.end:
        tail = furthest.mean().loc[shared.end :]
        drawn["tail"] = {"samples": tail.index.tolist(), "mean": tail.round(2).tolist()}
    return drawn


def choices() -> Choices:
    """The panel of all recorded readings, on test data."""
    base, published = figures.trained_alike(), results.published("figure2")
    pairs = recorded(base)
    panels = [
        _panel(pairs, base, published, dataset=dataset, algorithm=algorithm, latent_dim=latent_dim)
        for dataset, latent_dims in LATENT_DIMS.items()
        for algorithm in RIVALS
        for latent_dim in latent_dims
    ]
    questions = []
    for question, choice in CHOICES.items():
        of_panels = (r["answer"] for panel in panels for r in panel["readings"] if r["question"] == question)
        answers = sorted(dict.fromkeys(of_panels), key=_first_number)
        questions.append({"question": question, "slug": slug(question), **choice._asdict(), "answers": answers})
    return Choices(panels=panels, questions=questions)


def _first_number(answer: str) -> float:
    number = re.match(r"[\d.]+", answer)
    return float(number[0].rstrip(".")) if number else math.inf


def _panel(pairs: list[tuple[Curves, Curves]], base: Curves, published: Curves, **name: Any) -> dict[str, Any]:
    """What the panel shows of one dataset, algorithm and number of latents."""
    where = name | {"split": "test"}
    theirs, baseline = published.select(**where), drawn(base.select(**where))
    readings: dict[tuple[str, str], dict] = {}
    ends: dict[tuple[str, str], int] = {}
    for curves, compared in pairs:
        for (question, answer), part in curves.select(**where).each("question", "answer"):
            key = question, answer
            if ends.get(key, 0) <= part.end:
                readings[key], ends[key] = drawn(part) | {"against": drawn(compared.select(**where))}, part.end
    panel: dict[str, Any] = name | {
        "paper": points(theirs),
        "baseline": baseline,
        "readings": [_compared(*key, curve, baseline) for key, curve in readings.items()],
    }
    return panel | {"frame": _frame(panel)}


def points(curves: Curves) -> dict:
    """One curve by `samples`, its mean over seeds, in two decimals."""
    mean = curves.mean()
    return {"samples": mean.index.tolist(), "mean": mean.round(2).tolist()}


def _compared(question: str, answer: str, curve: dict, baseline: dict) -> dict:
    """The curve of a reading; what it is compared `against` is left out where it is the beginning of the baseline."""
    own, n = curve.pop("against"), len(curve["samples"])
    begins = all(own[name][:n] == baseline[name][:n] for name in ("samples", "mean"))
    return {"question": question, "answer": answer, **curve, **({} if begins else {"against": own})}


def _frame(panel: dict) -> list[float]:
    """The limits of the bound in a panel, nats: what the paper, the baseline and most of the readings need."""
    values = np.concatenate(
        [
            np.array(curve["mean"])[(np.array(curve["samples"]) >= FRAME[0]) & (np.array(curve["samples"]) <= FRAME[1])]
            for curve in (panel["paper"], panel["baseline"])
        ]
    )
    tops = [max(reading["mean"]) for reading in panel["readings"]]
    paper = panel["paper"]["mean"]
    low = max(values.min(), 2 * min(paper) - max(paper) - 1)  # as far below the paper's curve as that is high
    high = max(values.max(), np.quantile(tops, 0.9) if tops else -math.inf)
    return [float(round(edge)) for edge in (low - 0.04 * (high - low), high + 0.06 * (high - low))]


def slug(words: str) -> str:
    """The words as they stand in an address: small letters, figures, hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def link(question: str) -> str:
    """A link, as HTML, that opens the panel on its page at a question.

    Raises ValueError for a question that the panel has not.
    """
    if question not in CHOICES:
        raise ValueError(f"no choice {question!r}: there are {', '.join(map(repr, CHOICES))}")
    return f'<a href="{PAGE}#choice--{slug(question)}">{html.escape(question)}</a>'
