"""Files written whole or not at all."""

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a full disk
NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)  # errors of a missing permission
DAY = 86_400  # seconds; a temporary file as old as that is nobody's any more


def remedy(error: OSError) -> str:
    """The remedy for `error`; only a full disk needs more space."""
    if error.errno in NO_ROOM:
        return "free some space or choose another folder"
    if error.errno in NO_RIGHT:
        return "choose a folder that you may use"
    return "choose another folder"


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a temporary file beside `path`, then move it into place in one step.

    A crash, a full disk or a second process writing the same path leaves either the old file or the
    new one, never a mixture. What a killed process left beside `path` is removed a day later.

    Raises OSError with one line saying which file could not be written, why, and what to do.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        unused = path.parent / f".{path.name}.{secrets.token_hex(4)}"
        unused.touch(exist_ok=False)  # with the permissions that the umask leaves
        temporary = unused
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}; {remedy(error)}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` that are too old to be written still."""
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}")
    with contextlib.suppress(OSError):  # another process may remove them at the same time
        for other in path.parent.iterdir():
            if leftover.fullmatch(other.name) and other.stat().st_mtime < time.time() - DAY:
                other.unlink()


def write_text(path: Path, text: str) -> Path:
    """`write_whole` for a string in UTF-8, with the committed line endings on Windows too."""
    return write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_bytes(path: Path, payload: bytes) -> Path:
    """`write_whole` for bytes."""
    return write_whole(path, lambda temporary: temporary.write_bytes(payload))
