"""A process between a notebook's client and its kernel, so that nothing of a kernel outlives it.

It starts the kernel in a process group of their own, and waits until the kernel ends or the client is gone, for
whatever reason. Then it ends the whole group: a kernel that was killed leaves workers behind, which would go on
computing. The kernel's specification starts it as a script (`aevb.book.kernels`).
"""

import contextlib
import os
import signal
import subprocess
import sys

import psutil

KERNEL = (sys.executable, "-m", "ipykernel_launcher")  # the command that starts a kernel
POLL = 0.3  # seconds


def main() -> None:
    """Run the kernel whose arguments are this script's, and end all that is left of it."""
    posix = hasattr(os, "killpg")
    if posix and os.getpgrp() != os.getpid():
        os.setsid()  # Jupyter does so already; any other parent must survive the killing below
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop if number == signal.SIGTERM else _go_on)  # sent to the group: the kernel has it too
    client = int(os.environ["JPY_PARENT_PID"]) if posix else os.getppid()  # it may be gone already
    kernel = subprocess.Popen([*KERNEL, *sys.argv[1:]], close_fds=posix)  # on Windows Jupyter hands events down
    try:
        while kernel.poll() is None and psutil.pid_exists(client) and (not posix or os.getppid() == client):
            with contextlib.suppress(subprocess.TimeoutExpired):
                kernel.wait(POLL)
    finally:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if posix:
            os.killpg(0, signal.SIGKILL)  # the orphans of the kernel, and this process


def _go_on(*_: object) -> None:
    """The handler of an interrupt, which is meant for a cell and not for this process."""


def _stop(*_: object) -> None:
    sys.exit()


if __name__ == "__main__":
    main()
