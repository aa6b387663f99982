"""The behaviour of a command in a terminal.

It prints whatever the encoding. However it ends, it leaves nothing running.
"""

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # those that interrupt a command
PATIENCE = 0.5  # seconds from a request to end to the end
BROKEN_PIPE = 13  # SIGPIPE, which Windows does not have


def run(command: Callable[[], int]) -> int:
    """The exit status of `command`, that of a shell where a signal or a closed pipe ended it.

    A question mark is printed for a character that the output's encoding lacks. On SIGINT and SIGTERM all processes
    that descend from this one are ended. Call it in the main thread; elsewhere signals stay as they are.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a caller puts in its place need not have an encoding
            stream.reconfigure(errors="replace")
    descendants: list[psutil.Process] = []
    try:
        with _noting(descendants):
            return command()
    except BrokenPipeError:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
        with contextlib.suppress(io.UnsupportedOperation):  # of an output that is no file, and so no pipe
            output = sys.stdout.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)  # for output still to be written, which would end in a traceback
            os.dup2(nowhere, output)
            os.close(nowhere)
        return 128 + BROKEN_PIPE
    except KeyboardInterrupt as interrupt:
        end([*descendants, *psutil.Process().children(recursive=True)])
        print("aevb: interrupted", file=sys.stderr)
        return 128 + (*interrupt.args, signal.SIGINT)[0]


def leave(status: int) -> NoReturn:
    """End this process; at once where it was interrupted, without waiting for other threads."""
    if status > 128:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(status)
    sys.exit(status)


def can_show(text: str) -> bool:
    """True where the encoding of the output has all of `text`."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, errors="replace").decode(encoding) == text


@contextlib.contextmanager
def _noting(descendants: list[psutil.Process]) -> Iterator[None]:
    """Let signals interrupt, noting this process's descendants first: once parents have ended, nobody knows them."""

    def interrupt(number: int, _: object) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)  # an impatient reader presses twice
        descendants.extend(psutil.Process().children(recursive=True))
        raise KeyboardInterrupt(number)

    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, interrupt) for number in SIGNALS if in_main}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end(processes: list[psutil.Process]) -> None:
    """Ask processes to end, and end those that do not."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, others = psutil.wait_procs(processes, timeout=PATIENCE)
    for process in others:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
