"""Files written whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a full disk
NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)  # errors of a missing permission


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
    new one, never a mixture.

    Raises OSError with one line saying which file could not be written, why, and what to do.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}; {remedy(error)}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """`write_whole` for a string in UTF-8, with the committed line endings on Windows too."""
    return write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_bytes(path: Path, payload: bytes) -> Path:
    """`write_whole` for bytes."""
    return write_whole(path, lambda temporary: temporary.write_bytes(payload))
