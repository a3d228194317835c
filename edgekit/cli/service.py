"""`edgekit service --print`: a systemd unit that runs a bundle on a camera."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def service(
    context: typer.Context,
    wanted: Annotated[
        bool, typer.Option("--print", help="Print the unit; edgekit installs nothing by itself.")
    ] = False,
    user: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Who runs it. Without it: you; if you are root, a user that systemd makes.",
        ),
    ] = "",
) -> None:
    """Print a systemd unit that runs a bundle from boot on: service --print BUNDLE SOURCE [...].

    Takes all that `edgekit run` takes, as -o http://127.0.0.1:8080. The service counts as alive
    while it answers frames, is started again when it does not, and writes nothing but its outputs.
    """
    from edgekit import bundle as bundles
    from edgekit.device.service import groups, job, me, unit

    if not wanted:
        raise typer.BadParameter("give --print BUNDLE SOURCE")
    given = _parsed([*context.args])
    folders = [given["bundle"], *(given["model"] or ())]
    for folder in folders:
        bundles.read(folder)
    wished = job(context.args, folders, given["sources"], given["output"] or (), _program())
    print(unit(wished, user or me(), groups()), end="")


def _parsed(words: list[str]) -> dict[str, Any]:
    """The arguments of `edgekit run` by name; a wrong one is refused. Eats `words`."""
    from edgekit.cli.run import run

    app = typer.Typer(add_completion=False)
    app.command("service --print")(run)
    return dict(typer.main.get_command(app).make_context("edgekit service --print", words).params)


def _program() -> tuple[str, ...]:
    """What starts this edgekit, from any folder."""
    script = Path(sys.executable).with_name("edgekit")
    return (str(script),) if script.is_file() else (sys.executable, "-m", "edgekit.cli.main")
