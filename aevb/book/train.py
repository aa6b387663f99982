"""A widget that trains the paper's VAE in the reader's browser, and the digits that the page carries for it.

The digits are packed when the book is built, from the data of the machine that builds it; they are never committed. A
live notebook asks its kernel for all that a page would fetch.
"""

import functools
import zlib
from pathlib import Path
from typing import Any

import traitlets

from aevb import data, datasets
from aevb.book import choices, extension
from aevb.book.widgets import Widget, script, style
from aevb.data import DataError, log
from aevb.files import write_bytes
from aevb.reproduction import figures, results
from aevb.reproduction.curves import Curves, concat
from aevb.reproduction.settings import (
    FIGURE2_STEP_SIZE,
    PAGE_HIDDEN,
    PAGE_LATENT_DIMS,
    PAGE_N_TRAIN,
    RIVALS,
    ten_thousand_digits,
)

N_TEST = 1000  # test digits that a page carries beside the training digits
TILES = 10  # pictures per side of what the decoder makes of a grid of z
SHOWN_UNTIL = 1e6  # samples
PACKED = "digits.bin"  # the file of the packed digits, in the folder of static files
STEP_SIZES = (0.005, 0.01, 0.02, 0.05, 0.1)
VENDOR = "vendor/@tensorflow/tfjs-"
# the files of a page that training needs, by the names that the script has for them
FILES = {
    "digits": PACKED,
    "core": f"{VENDOR}core/dist/tf-core.min.js",
    "cpu": f"{VENDOR}backend-cpu/dist/tf-backend-cpu.min.js",
    "wasm": f"{VENDOR}backend-wasm/dist/tf-backend-wasm.min.js",
    "plain": f"{VENDOR}backend-wasm/dist/tfjs-backend-wasm.wasm",
    "simd": f"{VENDOR}backend-wasm/dist/tfjs-backend-wasm-simd.wasm",
    "webgpu": f"{VENDOR}backend-webgpu/dist/tf-backend-webgpu.min.js",
}


@functools.cache
def packed_digits() -> bytes:
    """The first `PAGE_N_TRAIN` training and the first N_TEST test digits, a byte per pixel, deflated.

    Raises DataError where MNIST is not to be found.
    """
    digits = datasets.load("mnist")
    parts = digits.train[:PAGE_N_TRAIN], digits.test[:N_TEST]
    return zlib.compress(b"".join(part.numpy().tobytes() for part in parts))


def pack_digits(static: Path) -> bool:
    """Write the digits into the folder of static files; False, with none left there, where this machine has no data.

    Nothing is fetched: a page can be built offline.
    """
    try:
        here = all(data.at_hand(file) is not None for file in datasets.MNIST_FILES.files)
    except DataError as error:
        log.warning("%s", error)
        here = False
    if not here:
        print("No MNIST here: nobody can train in this page. Run make data first.")
        (static / PACKED).unlink(missing_ok=True)
        return False
    write_bytes(static / PACKED, packed_digits())
    return True


class Train(Widget):
    """The paper's VAE, to be trained in the page.

    `algorithm`, `latents`, `hidden` and `step_size` are what the reader chose, `points` the curve so far: samples,
    the mean training bound since the last point, the test bound on N_TEST digits, nats per datapoint. All five follow
    the reader in a live notebook.
    """

    _esm = script("train")
    _css = style()
    worker = traitlets.Unicode(script("worker")).tag(sync=True)
    files = traitlets.Dict(FILES).tag(sync=True)
    options = traitlets.Dict().tag(sync=True)
    settings = traitlets.Dict().tag(sync=True)
    curves: traitlets.List[dict] = traitlets.List().tag(sync=True)
    grid: traitlets.List[list] = traitlets.List().tag(sync=True)
    tiles = traitlets.Int(TILES).tag(sync=True)
    side = traitlets.Int().tag(sync=True)
    n_train = traitlets.Int(PAGE_N_TRAIN).tag(sync=True)
    algorithm = traitlets.Unicode("aevb").tag(sync=True)
    latents = traitlets.Int(2).tag(sync=True)
    hidden = traitlets.Int(100).tag(sync=True)
    step_size = traitlets.Float(FIGURE2_STEP_SIZE).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    points: traitlets.List[list] = traitlets.List().tag(sync=True)

    def __init__(self, **state: object) -> None:
        super().__init__(**state)
        self.on_msg(lambda _, message, __: self.send({"name": message["name"]}, self.asked(message["name"])))

    @staticmethod
    def asked(name: str) -> list[bytes]:
        """The file that the script calls `name`, as buffers of a message: none where there is no such file."""
        if name == "digits":
            return [packed_digits()] if datasets.available("mnist") else []
        packages = extension.packages() if extension.LOCK.exists() else None  # an installed package has no lock
        path = packages and packages / FILES[name].removeprefix("vendor/")
        return [path.read_bytes()] if path and path.exists() else []


def train() -> Train:
    """The panel, with the paper's curves, the record's, and the range of the library's runs on the same digits."""
    runs = {run.algorithm: run for run in ten_thousand_digits(1, ("mnist",))}
    digits = datasets.get("mnist")
    # two latents, which figure 2 has not, are figure 4's
    record = concat([results.recorded("figure2"), results.recorded("figure4")])
    curves = results.published("figure2"), record, results.recorded("ten-thousand-digits")
    return Train(
        options={
            "algorithm": list(RIVALS),
            "latents": list(PAGE_LATENT_DIMS),
            "hidden": list(PAGE_HIDDEN),
            "step_size": list(STEP_SIZES),
        },
        settings={
            name: {
                "warm_up": run.warm_up,
                "slow_log_var": run.slow_log_var,
                "prior_weight": run.batch_size / PAGE_N_TRAIN,
                "greys": digits.scale,
            }
            for name, run in runs.items()
        },
        curves=[_curves(name, latents, *curves) for name in RIVALS for latents in PAGE_LATENT_DIMS],
        grid=figures.latent_grid(TILES).tolist(),
        side=digits.image_shape[0],
    )


def _curves(algorithm: str, latents: int, paper: Curves, record: Curves, ours: Curves) -> dict:
    """The training bounds that the panel draws for one algorithm and number of latents, of those of all."""
    where: dict[str, Any] = {"dataset": "mnist", "algorithm": algorithm, "latent_dim": latents}
    runs = ours.select(split="running", **where)
    return {
        "algorithm": algorithm,
        "latents": latents,
        "paper": choices.points(paper.select(SHOWN_UNTIL, split="train", **where)),
        "record": choices.points(record.select(SHOWN_UNTIL, split="running", **where)),
        "ours": {str(hidden): choices.drawn(runs.select(hidden=hidden)) for hidden in PAGE_HIDDEN},
    }
