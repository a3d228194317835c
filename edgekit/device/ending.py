"""How a small program around the loop ends: cleanly, with one line and the right exit code."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edgekit.errors import EdgekitError


@contextmanager
def ending() -> Iterator[None]:
    """Run a program's main part; what ends it becomes an exit code and at most one line.

    Ctrl-C ends with 130 and SIGTERM with 143, after every `with` block inside has closed its camera
    and finished its file. An `EdgekitError` prints `error: ...` and ends with its own code; a
    reader of stdout that went away ends it quietly. Anything else is a bug and keeps its traceback.

    Raises:
        SystemExit: one of the above happened.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
        sys.stdout.flush()  # so that a broken pipe shows here, not at exit
    except EdgekitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # Python flushes stdout once more at exit: let it flush into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + 13)  # as if SIGPIPE had ended it


def _terminate(number: int, frame: object) -> None:
    raise SystemExit(128 + number)
