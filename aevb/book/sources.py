"""The repository that builds the page: its public address, which nothing that is committed names."""

import os

BRANCH = "page"  # of what the page shows, with the cell for Colab: the workflow that builds the page writes it


def address() -> str:
    """The public address of the repository, as the workflow that builds the page gives it; empty where none does."""
    return os.environ.get("AEVB_REPOSITORY", "")
