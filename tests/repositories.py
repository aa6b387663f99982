"""Repositories that tests make."""

import subprocess
from pathlib import Path

IDENTITY = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *IDENTITY, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def committed(folder: Path) -> Path:
    """A repository of one commit at `folder`."""
    (folder / "aevb").mkdir(parents=True)
    (folder / "aevb" / "code.py").write_text(f"{folder.name!r}\n", encoding="utf-8")  # so that no two are alike
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=one")
    return folder
