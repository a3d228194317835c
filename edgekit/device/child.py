"""A process of our own that runs edgekit, too: how it is started, and how an error comes back."""

import json
import sys

from edgekit import errors
from edgekit.errors import EdgekitError

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "


def command(program: str, *arguments: str) -> list[str]:
    """What runs the Python text `program` with this process's own path.

    `sys.argv[2:]` are `arguments`.
    """
    return [sys.executable, "-c", _START + program, json.dumps(sys.path), *arguments]


def as_news(error: EdgekitError) -> dict[str, str]:
    """An error, to be sent as JSON."""
    return {"error": type(error).__name__, "message": str(error)}


def from_news(news: dict[str, str]) -> EdgekitError:
    """The error that `as_news` was made of, to be raised here."""
    kind = getattr(errors, news["error"], EdgekitError)
    made = kind.__new__(kind, news["message"])  # its __init__ may want other arguments
    assert isinstance(made, EdgekitError)
    return made
