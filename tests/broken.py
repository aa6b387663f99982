"""A plugin of pytest that runs tests with a function broken, to see whether they fail.

A broken function is five percent off, in its result or in its argument. `--pairs FILE` names pairs of a function and a
test; after the run FILE also has the error of each test's first failing case, if any.
"""

import contextlib
import functools
import inspect
import json
import pydoc
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

OFF = 1.05


@functools.singledispatch
def off(value: Any) -> Any:
    """`value` five percent off. A model, a figure or a panel of one is changed in place."""
    raise TypeError(f"how to put a {type(value).__name__} off is not said")


@off.register(float)
@off.register(Tensor)
@off.register(np.ndarray)
def _(value: float | Tensor | np.ndarray) -> float | Tensor | np.ndarray:
    return value * OFF


@off.register
def _(count: int) -> int:
    return count


@off.register
def _(values: tuple) -> tuple:
    parts = [off(value) for value in values]
    return type(values)(*parts) if hasattr(values, "_fields") else tuple(parts)


@off.register
def _(values: list) -> list:
    return [off(value) for value in values]


@off.register
def _(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.data *= OFF
    return model


@off.register
def _(made: types.FunctionType) -> types.FunctionType:
    """What an objective, say, gives."""
    return lambda *args, **kwargs: off(made(*args, **kwargs))


@off.register
def _(panel: Axes) -> Axes:
    for line in panel.lines:
        line.set_ydata(off(line.get_ydata()))
    for picture in panel.images:
        picture.set_data(off(picture.get_array()))
    return panel


@off.register
def _(figure: Figure) -> Figure:
    for panel in figure.axes:
        off(panel)
    return figure


# the functions that work on their first argument, and the part of it that is off afterwards
WORKING = {
    "aevb.full_vb.FullVB": off,
    "aevb.mcem.Chains.move": lambda chains: chains.z.mul_(OFF),
    "aevb.reproduction.figures.manifold": off,
    "aevb.reproduction.figures.samples_grid": off,
    "aevb.trainer.Trainer.step": lambda trainer: off(trainer.model),
}


@contextlib.contextmanager
def broken(name: str) -> Iterator[None]:
    """The function of that name, or a class's initialiser, broken wherever it is known: its code is replaced."""
    there = pydoc.locate(name)
    function = inspect.unwrap(there.__init__ if isinstance(there, type) else there)
    code, its_globals = function.__code__, function.__globals__
    whole = types.FunctionType(code, its_globals, argdefs=function.__defaults__, closure=function.__closure__)
    whole.__kwdefaults__ = function.__kwdefaults__

    def instead(*args: Any, **kwargs: Any) -> Any:
        found = whole(*args, **kwargs)
        if name not in WORKING:
            return off(found)
        WORKING[name](args[0])
        return found

    its_globals["_instead"] = instead
    call = (lambda *args, **kwargs: _instead(*args, **kwargs)).__code__  # noqa: F821, which it finds there
    function.__code__ = call.replace(co_freevars=code.co_freevars)
    try:
        yield
    finally:
        function.__code__ = code
        del its_globals["_instead"]


raised: list[str] = []  # by the test that runs


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pairs", type=Path, help="pairs of a function and a test, as JSON")


def pytest_runtest_makereport(call: pytest.CallInfo) -> None:
    if call.excinfo:
        raised.append(call.excinfo.typename)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    found = []
    for function, test in json.loads(session.config.option.pairs.read_text(encoding="utf-8")):
        raised.clear()
        with broken(function):
            for item in session.items:
                if not raised and item.nodeid.partition("[")[0] == f"tests/{test}":
                    item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        found.append((function, test, *raised))
    session.config.option.pairs.write_text(json.dumps(found), encoding="utf-8")
    session.testsfailed = 0  # which is as it should be
    return True
