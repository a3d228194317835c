"""The console script: the verbs, and what each way of ending turns into.

0 done; 1 a check failed; 2 bad usage or input; 3 a missing package; 69 a camera, device or server
that is not available; 70 a bug in edgekit; 130, 143 interrupted; 141 the reader of our output went
away.
Results go to stdout, progress and logs to stderr.
"""

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer
from typer.exceptions import TyperException

from edgekit import __version__
from edgekit.cli import (
    bench,
    build,
    compare,
    doctor,
    inspect,
    listing,
    run,
    service,
    train,
    verify,
    weights,
)
from edgekit.errors import EdgekitError

BUG = 70  # EX_SOFTWARE of sysexits.h
BROKEN_PIPE = 141  # as if SIGPIPE had ended us

app = typer.Typer(
    name="edgekit",
    help="Take an efficient vision network from training to a proven artifact on a device, "
    "and run it on a camera.",
    epilog="Exit codes: 0 done, 1 a check failed, 2 bad usage or input, 3 a missing package, "
    "69 a camera, device or server not available, 130 and 143 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"edgekit {__version__}")
        raise typer.Exit


@app.callback()
def edgekit(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Take options that stand before the verb."""


for verb, summary in (
    (build.build, "Make a bundle, and prove it against the trained network."),
    (run.run, "Run a bundle on an image, a folder, a clip or a camera."),
    (verify.verify, "Check a bundle's bytes and replay its golden frames."),
    (bench.bench, "Measure latency, throughput and memory of bundles."),
    (compare.compare, "Compare bundles: accuracy, agreement, latency, memory."),
    (inspect.inspect, "Say what is in a bundle, or what a network costs."),
    (train.train, "Train a network by a recipe."),
    (train.distill, "Train a small network to answer as a large one does."),
    (train.prune, "Remove weights or channels, and train on."),
    (train.quantize, "Train a network for int8."),
    (listing.targets, "List the device families to build for."),
    (listing.architectures, "List the network architectures."),
    (doctor.doctor, "Say what can be built and run on this machine."),
):
    app.command(short_help=summary)(verb)
app.command(
    short_help="Print a systemd unit that runs a bundle from boot on.",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},  # those of `run`
)(service.service)
app.add_typer(weights.app, name="weights")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code, never raises for a user's mistake."""
    _end_by_raising()
    if sys.stdout is None:  # closed by the caller, as `>&-` does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a label that the terminal cannot show
    try:
        code = _invoke(sys.argv[1:] if arguments is None else arguments)
        print(end="", flush=True)  # so that a broken pipe or a full disk shows here, not at exit
        return code
    except EdgekitError as error:
        return _say(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except BrokenPipeError:
        _flush_into_nothing()
        return BROKEN_PIPE
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _flush_into_nothing()
            return _say("error: the disk is full: free some space, or write elsewhere", 2)
        return _bug(error)


def _invoke(arguments: Sequence[str]) -> int:
    command = typer.main.get_command(app)
    try:
        with command.make_context("edgekit", list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except TyperException as error:
        return _usage(error)
    return 0


def _usage(error: TyperException) -> int:
    """One line for a wrong command line; the whole help where no verb was given."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        return _say(error.format_message(), error.exit_code)
    path = context.command_path if context else "edgekit"
    message = error.format_message().rstrip(".")
    return _say(f"error: {message}; see {path} --help", error.exit_code)


def _bug(error: Exception) -> int:
    if os.environ.get("EDGEKIT_DEBUG"):
        traceback.print_exception(error)
    kind = type(error).__name__
    return _say(
        f"error: a bug in edgekit: {kind}: {error}\n"
        "please report it, with what this prints when EDGEKIT_DEBUG=1 is set",
        BUG,
    )


def _say(message: str, code: int) -> int:
    """Print to stderr, where a terminal may have gone away."""
    with suppress(OSError):
        print(end="", flush=True)
        print(message, file=sys.stderr, flush=True)
    return code


def _flush_into_nothing() -> None:
    """Python flushes stdout once more at exit, which would fail as it just did."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end_by_raising() -> None:
    """SIGTERM and SIGHUP unwind the stack, so that cameras close and partial files go."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminated)


def _terminated(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
