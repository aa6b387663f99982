import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from aevb.files import write_bytes, write_text, write_whole


def test_writes_and_makes_the_folder(tmp_path):
    path = write_text(tmp_path / "a" / "b" / "note.txt", "ε ~ N(0, I)\n")
    assert path.read_bytes() == "ε ~ N(0, I)\n".encode()
    assert write_bytes(path, b"\x00\xff").read_bytes() == b"\x00\xff"
    assert os.listdir(path.parent) == ["note.txt"]


def half_and_disk_full(path):
    path.write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_and_interrupted(path):
    path.write_bytes(b"half")
    raise KeyboardInterrupt


@pytest.mark.parametrize("writer", [half_and_disk_full, half_and_interrupted])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path, writer, old):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises((OSError, KeyboardInterrupt)):
        write_whole(path, writer)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if old is None else [old])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_permissions_that_the_umask_leaves(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        path = write_bytes(tmp_path / "file", b"mine")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode


KILLED = """
import os, signal, sys
from pathlib import Path
from aevb.files import write_whole
write_whole(Path(sys.argv[1]), lambda temporary: os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_what_a_killed_process_left_is_removed_by_a_later_write_of_that_file(tmp_path):
    path = write_bytes(tmp_path / "file[1].txt", b"old")
    kept = [tmp_path / name for name in (".file[1].txt.original", ".file[1].txt.x.01234567", ".file1.txt.01234567")]
    for other in kept:
        other.touch()
        os.utime(other, (0, 0))
    subprocess.run([sys.executable, "-c", KILLED, str(path)])
    (left,) = set(tmp_path.iterdir()) - {path, *kept}
    write_bytes(path, b"new")
    assert left.exists()  # it may be that of a process that still writes
    os.utime(left, (time.time() - 90_000,) * 2)
    write_bytes(path, b"newer")
    assert set(tmp_path.iterdir()) == {path, *kept}


def test_the_error_is_one_line_and_names_the_file(tmp_path):
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_whole(tmp_path / "file", half_and_disk_full)
    assert str(tmp_path / "file") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space or choose another folder"),
        (errno.EACCES, "choose a folder that you may use"),
        (errno.EROFS, "choose a folder that you may use"),
        (errno.EIO, "choose another folder"),
    ],
)
def test_only_a_full_disk_wants_space(tmp_path, number, remedy):
    def fail(path):
        raise OSError(number, os.strerror(number))

    with pytest.raises(OSError, match=rf"^cannot write .*: {os.strerror(number)}; {remedy}$"):
        write_whole(tmp_path / "file", fail)


def test_a_write_that_the_kernel_cuts_short_leaves_the_old_file(tmp_path):
    """A real partial write: the process may write no more than 100 bytes to a file."""
    path = write_bytes(tmp_path / "file", b"old")
    resource = pytest.importorskip("resource", reason="Windows sets no such limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="cannot write"):
            write_bytes(path, bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_a_folder_that_is_a_file_is_one_clear_line(tmp_path):
    (tmp_path / "folder").write_text("not a folder", encoding="utf-8")
    with pytest.raises(OSError, match=r"cannot write .*folder/file: .*; choose another folder$") as caught:
        write_text(tmp_path / "folder" / "file", "text")
    assert "\n" not in str(caught.value)


def test_a_reader_never_sees_a_mixture_of_two_writers(tmp_path):
    path, seen = tmp_path / "file", set()
    contents = [bytes([k]) * 300_000 for k in range(2)]
    write_bytes(path, contents[0])
    writers = [
        threading.Thread(target=lambda content=content: [write_bytes(path, content) for _ in range(30)])
        for content in contents
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        seen.add(path.read_bytes())
    assert seen <= set(contents)
    assert os.listdir(tmp_path) == ["file"]
