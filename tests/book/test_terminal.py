import contextlib
import io
import os
import shlex
import signal
import subprocess
import sys

import pytest

from aevb.book import terminal
from aevb.book.notebooks import ROOT

POSIX = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
PRINTS = r"""
from aevb.book import terminal
lines = "\u03c3\u00b2 \u2502 3.5\n" * 9999
terminal.leave(terminal.run(lambda: print(lines, terminal.can_show("\u2502"), flush=True) or 0))
"""
needs_bash = pytest.mark.skipif(sys.platform == "win32", reason="pipes as Unix has them")


def run(arguments: list[str], shell: str = "", **environment: str) -> subprocess.CompletedProcess:
    """Python with `arguments`, and with `shell` after it."""
    command = f"{shlex.join([sys.executable, *arguments])} {shell}"
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=os.environ | environment, capture_output=True, timeout=120
    )


@needs_bash
@pytest.mark.parametrize(
    ("environment", "encoding", "there"),
    [
        ({"PYTHONIOENCODING": "cp1252"}, "cp1252", "?² ? 3.5"),
        ({"PYTHONIOENCODING": "latin-1"}, "latin-1", "?² ? 3.5"),
        ({"PYTHONIOENCODING": "utf-8"}, "utf-8", "σ² │ 3.5"),
        (POSIX, "ascii", "?? ? 3.5"),
    ],
)
def test_no_encoding_kills_an_output(environment, encoding, there):
    result = run(["-c", PRINTS], **environment)
    assert (result.returncode, result.stderr) == (0, b"")
    lines = result.stdout.decode(encoding).splitlines()
    assert lines[:9999] == [there] * 9999
    assert lines[9999] == f" {encoding == 'utf-8'}"


@needs_bash
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_has_seen_enough_is_no_error(unbuffered):
    result = run(["-c", PRINTS], "| head -2; exit ${PIPESTATUS[0]}", PYTHONUNBUFFERED=unbuffered)
    assert (result.returncode, result.stderr) == (141, b"")
    assert result.stdout.decode() == "σ² │ 3.5\n" * 2
    assert run(["-c", PRINTS], ">&-").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_told_in_one_line_and_signals_are_as_before(number, capsys):
    before = [signal.getsignal(other) for other in terminal.SIGNALS]
    assert terminal.run(lambda: signal.raise_signal(number)) == 128 + number
    assert capsys.readouterr().err == "aevb: interrupted\n"
    assert [signal.getsignal(other) for other in terminal.SIGNALS] == before


def test_an_output_that_is_no_file_is_printed_to():
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()):
        assert terminal.run(lambda: print("σ² │ 3.5") or 0) == 0
    assert output.getvalue() == "σ² │ 3.5\n"


def test_a_pipe_may_close_where_the_output_is_no_file():
    def command():
        raise BrokenPipeError

    with contextlib.redirect_stdout(io.StringIO()):
        assert terminal.run(command) == 128 + terminal.BROKEN_PIPE
