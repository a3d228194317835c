"""Where the repository is: on the Pi at the same path as here."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
