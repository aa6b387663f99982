"""The checkout that this package stands in."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the project's folder; installed without one, the folder of the package
