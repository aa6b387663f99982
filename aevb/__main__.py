"""`python -m aevb`: the same steps as the Makefile's, for people without make."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path


def _leave_at_once(number: int, _: object) -> None:
    print("aevb: interrupted", file=sys.stderr, flush=True)
    os._exit(128 + number)


if __name__ == "__main__":  # until `terminal` has the signals: imports take seconds, and an exception may abort torch's
    signal.signal(signal.SIGINT, _leave_at_once)

try:
    import pandas as pd
    import torch
    from tabulate import tabulate

    from aevb import datasets
    from aevb.algorithms import ALGORITHMS
    from aevb.book import execution, notebooks, pages, refresh, suite, terminal
    from aevb.data import SUPPLY, DataError
    from aevb.datasets import LIKELIHOODS, PAPER
    from aevb.measures import MEASURES
    from aevb.reproduction import arithmetic, claims, experiments, recording, results, training
    from aevb.reproduction.curves import agreement
    from aevb.trainer import DivergedError
except ModuleNotFoundError as error:
    raise SystemExit(f"aevb: the commands need {error.name}: python -m pip install 'aevb[book]'") from error

# kernels and workers inherit it: one thread per run is faster and steadier than several on a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")
INSTALLED = ("data", "compare", "train")  # the commands that work without the checkout


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status. Mistakes in what was asked for are one line on standard error."""
    return terminal.run(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="aevb: %(message)s")  # to standard error
    logging.getLogger("aevb").setLevel("INFO")
    if os.environ.get("AEVB_DATA"):
        os.environ["AEVB_DATA"] = str(Path(os.environ["AEVB_DATA"]).resolve())  # kernels run in another folder
    try:
        if options.name not in INSTALLED:
            results.must_be_in_checkout(f"what `{options.name}` works on")
        status = options.command(options)
        print(end="", flush=True)  # now, while an error is still told in one line
        return status
    except BrokenPipeError:
        raise  # nobody's mistake
    except (ValueError, DataError, DivergedError, OSError) as error:
        print(f"aevb: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m aevb", description=__doc__.split(":", 1)[1].strip())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command, name=name)
        return sub

    add("data", fetch_data, "get and verify the data")
    reproduce_parser = add("reproduce", reproduce, "data, every chapter, the page, the table of claims")
    reproduce_parser.add_argument("--profile", default=notebooks.DEFAULT_PROFILE, help=", ".join(experiments.PROFILES))
    notebooks_parser = add("notebooks", update_notebooks, "execute chapters again and update the committed notebooks")
    notebooks_parser.add_argument("names", nargs="*", help="chapters, such as 07_vae (default: all)")
    add("colab", add_colab_cell, "begin every notebook with the cell that Colab needs, before it is published")
    add("book", build_book, "build the page from the committed notebooks")
    test_parser = add("test", run_tests, "everything CI runs")
    kinds = ", ".join(arithmetic.SETTINGS)
    test_parser.add_argument("--arithmetic", help=f"compute as another processor would: {kinds} (default: this one)")
    test_parser.add_argument("--live", action="store_true", help="only the chapters that train")
    add("check", run_check, "the checks for every save: lint, types, pairs in step, unit tests of the core")
    seeds_parser = add("seeds", try_seeds, "execute the chapters with other seeds: no assert may depend on one")
    seeds_parser.add_argument("seeds", nargs="+", type=int, metavar="SEED")
    add("compare", compare, "our recorded curves minus the published ones, and the verdict on each claim")
    _add_record_options(add("record", record, "run an experiment and add it to results/recorded"))
    what = "train a model of your own images, or of the paper's, and draw what it learned"
    _add_train_options(add("train", train, what))
    return parser


def _add_record_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", help=", ".join(experiments.EXPERIMENTS))
    profiles = ", ".join(experiments.PROFILES)
    parser.add_argument("--profile", default="standard", help=f"{profiles} (default: standard)")
    parser.add_argument("--dataset", help=f"one of {', '.join(experiments.BOTH_DATASETS)} (default: all)")
    parser.add_argument("--samples", type=int, help="samples of each curve (default: the profile's)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:1")
    parser.add_argument("--jobs", type=int, help="runs at once (default: one per core)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each run (default: 1)")


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", help=f"an .npz file, a folder of images, or one of {', '.join(experiments.BOTH_DATASETS)}"
    )
    parser.add_argument("--algorithm", default="aevb", help=f"{', '.join(ALGORITHMS)} (default: aevb)")
    kinds = ", ".join(LIKELIHOODS)
    parser.add_argument("--likelihood", help=f"that of your images: {kinds} (default: bernoulli)")
    parser.add_argument("--scale", type=float, help="the value that is white in your images (default: 255, or 1)")
    parser.add_argument("--light", action="store_true", help="draw your images light on dark, as photographs")
    parser.add_argument("--latent-dim", type=int, default=2, help="latents (default: 2)")
    parser.add_argument("--hidden", type=int, help="hidden units (default: the dataset's)")
    parser.add_argument("--samples", type=int, default=200_000, help="training samples (default: 200,000)")


def fetch_data(_: argparse.Namespace) -> int:
    """Get the paper's datasets. Raises DataError where one is missing, unless the book can do without."""
    for dataset in PAPER:
        try:
            print(f"{dataset.name}: {_counted(dataset.name)}, verified")
        except DataError as error:
            if not dataset.optional:
                raise
            print(f"{dataset.name}: missing. {error}")
    return 0


def _counted(name: str) -> str:
    images = datasets.load(name)
    sizes = [len(split) for split in (images.train, images.valid, images.test) if len(split)]
    return f"{' + '.join(map(str, sizes))} images"


def train(options: argparse.Namespace) -> int:
    """Train one model and draw what it learned."""
    dataset = training.find(options.data, options.likelihood, options.scale, options.light)
    run = training.plan(dataset, options.algorithm, options.latent_dim, options.hidden)
    height, width = dataset.image_shape
    print(f"{dataset.title}: {_counted(dataset.name)} of {height} x {width} pixels")
    curve, picture, drawn = training.train_and_draw(run, options.samples)
    print(tabulate(curve, ["samples", "train", "test"], floatfmt=("", ".1f", ".1f"), showindex=False))
    further = f" of the model at {drawn:,} samples" if drawn > curve["samples"].max() else ""
    print(f"{MEASURES[run.measure].words} in nats per datapoint. The picture{further}: {picture}")
    return 0


def reproduce(options: argparse.Namespace) -> int:
    """Everything: data, chapters, page, claims. Status 1 where a chapter or the page failed."""
    profile = options.profile
    experiments.n_seeds(profile)  # refuses an unknown one before anything is fetched
    fetch_data(options)
    results.forget(profile)
    outcomes = pages.stage(profile)
    faults = pages.build_anyhow()
    failed = [outcome.chapter for outcome in outcomes if outcome.error]
    print(f"\nClaims, at profile {profile}:\n{_claims(claims.of_profile(profile, failed))}\n")
    print(f"Claims of later papers:\n{_later_claims(claims.of_profile(profile, failed, claims.AFTER))}\n")
    print(_times(outcomes))
    for chapter in failed:
        print(f"FAILED: {chapter}, kept half-executed in {pages.STAGE / 'book' / chapter}.ipynb")
    if faults:
        print(f"FAILED: {faults}")
    if pages.PAGE.exists():
        print(f"\nThe page: {pages.PAGE.relative_to(notebooks.ROOT)}")
    for dataset in PAPER:
        if not datasets.available(dataset.name):
            print(f"{dataset.title} is missing: its figures are the recorded ones. To supply it, {SUPPLY}.")
    return int(bool(failed or faults))


def _times(outcomes: list[execution.ChapterOutcome]) -> str:
    return tabulate([(o.chapter, f"{o.seconds:.0f} s", o.error or "ok") for o in outcomes], ["chapter", "time", ""])


def _later_claims(table: pd.DataFrame) -> str:
    return _claims(table.assign(claim=table["claim"] + ", " + table["where"]), "they claim")


def _claims(table: pd.DataFrame, who: str = "the paper claims") -> str:
    columns = ["number", "claim", "measure", "published", "ours", "verdict"]
    headers = ["", who, "measured by", "published", "ours", "verdict"]
    widths = [2, 26, 28, 22, 22, 14]
    lines = "simple_grid" if terminal.can_show("│") else "grid"
    rows = tabulate(table[columns].values.tolist(), headers, lines, maxcolwidths=widths, disable_numparse=True)
    return f"{rows}\n{claims.headline(table)}"


def update_notebooks(options: argparse.Namespace) -> int:
    """Execute chapters at the default profile; update the committed notebooks, the README's figure and headline."""
    outcomes = refresh.update_notebooks(options.names)
    refresh.write_figure()
    refresh.write_headline()
    print(_times(outcomes))
    return int(any(outcome.error for outcome in outcomes))


def add_colab_cell(_: argparse.Namespace) -> int:
    """Let every text and notebook begin with the cell that Colab needs: for the workflow that publishes them."""
    notebooks.add_colab_cell()
    return 0


def build_book(_: argparse.Namespace) -> int:
    """Build the page from the committed notebooks."""
    status = pages.build()
    if not status:
        print(f"The page: {pages.PAGE.relative_to(notebooks.ROOT)}")
    return status


def run_tests(options: argparse.Namespace) -> int:
    """Lint, types, nbval over the committed notebooks, and the unit tests, which build the page too."""
    return suite.run(suite.live() if options.live else suite.everything(), options.arithmetic)


def run_check(_: argparse.Namespace) -> int:
    """A minute's worth of the tests."""
    return suite.run(suite.quick())


def try_seeds(options: argparse.Namespace) -> int:
    """Execute the chapters that draw random numbers with other seeds. Status 1 where an assert failed."""
    outcomes = [(seed, o) for seed, each in execution.try_seeds(options.seeds).items() for o in each]
    rows = [(seed, o.chapter, f"{o.seconds:.0f} s", o.error or "ok") for seed, o in outcomes]
    print(tabulate(rows, ["seed", "chapter", "time", ""]))
    return int(any(outcome.error for _, outcome in outcomes))


def compare(_: argparse.Namespace) -> int:
    """Print ours minus published for figures 2 and 3, and the verdict on every claim, from `results/` alone."""
    for figure, value in (("figure2", "lower bound"), ("figure3", "log p(x)")):
        table = agreement(results.recorded(figure), results.published(figure))
        print(f"Figure {figure[-1]}, {value} in nats per datapoint: recorded minus published\n")
        print(tabulate(table, headers="keys", floatfmt=".1f", showindex=False), end="\n\n")
    print(f"The published points and our record, train and test:\n{results.headline()}\n")
    print(f"Claims, from the record:\n{_claims(claims.of_record())}\n")
    print(f"Claims of later papers, from the record:\n{_later_claims(claims.of_record(claims.AFTER))}")
    return 0


def record(options: argparse.Namespace) -> int:
    """Run an experiment and add it to the record."""
    datasets = experiments.BOTH_DATASETS if options.dataset is None else (options.dataset,)
    if not _is_here(options.device):
        raise ValueError(f"--device {options.device}: torch finds no such device here; leave it out to run on the CPU")
    machine = {"jobs": options.jobs, "threads": options.threads, "device": options.device}
    count = recording.record(options.experiment, options.profile, datasets, options.samples, **machine)
    runs = f"{count} run{'s' * (count != 1)}"
    print(f"{options.experiment}: {runs} added to the record; what it had as far already was not repeated")
    return 0


def _is_here(device: str) -> bool:
    """True where runs can train on `device`: the CPU, or one of this machine's GPUs."""
    gpus = ["cuda", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))] if torch.cuda.is_available() else []
    return device in ("cpu", *gpus)


if __name__ == "__main__":
    terminal.leave(main())
