"""Arithmetic of another processor on this one.

Processors differ in the last bits of a product or a tanh, and training turns these into nats. The libraries that
compute them choose their code by the processor. Environment variables can make them take the code of a lesser one.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys

from aevb.reproduction.checkout import ROOT

NATIVE, OTHER = "native", "other"  # this machine's own arithmetic, and any that has no name
# the environment variables of each arithmetic, by its name
SETTINGS = {
    NATIVE: {},
    "plain": {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"},  # no vector code at all
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
# all variables that SETTINGS sets
VARIABLES = tuple(sorted({variable for settings in SETTINGS.values() for variable in settings}))


def environment(name: str, around: dict[str, str]) -> dict[str, str]:
    """The environment `around`, in which processes compute by the arithmetic `name`, one of SETTINGS.

    Raises ValueError for another name.
    """
    if name not in SETTINGS:
        raise ValueError(f"unknown arithmetic {name!r}: choose one of {', '.join(SETTINGS)}")
    return {key: value for key, value in around.items() if key not in VARIABLES} | SETTINGS[name]


def current() -> str:
    """The arithmetic of this process, by its environment; OTHER where its variables are set otherwise."""
    here = {variable: os.environ[variable] for variable in VARIABLES if variable in os.environ}
    return next((name for name, settings in SETTINGS.items() if settings == here), OTHER)


def digests() -> dict[str, str]:
    """A hash of the bits of each operation that training repeats, at the sizes of figure 2, from a fixed seed."""
    import torch  # here, for those who need no more than a name

    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=generator) for shape in ((100, 784), (784, 500)))
    outcomes = {
        "product": x @ weight,
        "tanh": torch.tanh(x),
        "exp": torch.exp(x),
        "softplus": torch.nn.functional.softplus(x),
        "sum": x.sum(-1),
    }
    return {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in outcomes.items()}


def differing(name: str) -> list[str]:
    """The operations of `digests` that differ in a bit between the arithmetic `name` and this machine's own."""

    def found(arithmetic: str) -> dict[str, str]:
        command = [sys.executable, "-m", "aevb.reproduction.arithmetic"]
        there = environment(arithmetic, dict(os.environ))
        return json.loads(subprocess.run(command, cwd=ROOT, env=there, check=True, stdout=subprocess.PIPE).stdout)

    native, other = found(NATIVE), found(name)
    return [operation for operation in native if other[operation] != native[operation]]


def description(name: str) -> str:
    """One line on the arithmetic `name`, which says whether the switch took on this machine."""
    if name == NATIVE:
        return "arithmetic: native, this machine's own"
    if names := differing(name):
        return f"arithmetic: {name}; other than this machine's own in the last bits of {', '.join(names)}"
    return f"arithmetic: {name}, which this machine ({platform.machine()}) cannot show: no bit differs from its own"


if __name__ == "__main__":
    print(json.dumps(digests()))
