"""`edgekit doctor`: what can be built and run on this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgekit.device.doctor import Diagnosis, Half


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Say what can be built and run here, and the command for what is missing.

    Ends with 0 if at least one backend can run here, else with 3.
    """
    from edgekit.cli.show import print_json
    from edgekit.device.doctor import diagnose

    found = diagnose()
    if json:
        print_json(found)
    else:
        _print(found)
    if not any(found.usable(half.backend, "device") for half in found.halves):
        raise typer.Exit(3)


def _print(found: "Diagnosis") -> None:
    from edgekit.cli.show import print_facts, print_table

    cameras = [
        f"{it.path} {it.name}".strip()
        + (f" ({it.lasting})" if it.lasting else "")
        + ("" if it.readable else " (no permission to open it)")
        for it in found.cameras
    ]
    print_facts(
        {
            "edgekit": found.edgekit,
            "Python": found.python,
            "platform": found.platform,
            "board": found.board,
            "machine": f"{found.cores} cores, {found.memory_mb} MB",
            "cameras": ", ".join(cameras) or "none at /dev/video*",
            "display://": "yes" if found.windows else "no: OpenCV without windows, or no display",
            "ONNX Runtime": ", ".join(found.providers),
        }
    )
    print()
    print_table(
        ("source", "usable", "missing", "command"),
        [
            (f"{it.scheme}://", "no" if it.missing else "yes", it.missing, it.command)
            for it in found.sources
        ],
    )
    print()
    print_table(
        ("backend", "half", "usable", "packages"),
        [(it.backend, it.half, "yes" if it.usable else "no", _packages(it)) for it in found.halves],
    )
    print()
    print_table(
        ("target", "backend", "build", "run"),
        [
            (name, backend, *("yes" if found.usable(backend, half) else "no" for half in HALVES))
            for name, backend in found.targets.items()
        ],
    )
    for command in dict.fromkeys(it.install for it in found.halves if it.install):
        users = [f"{it.backend} ({it.half})" for it in found.halves if it.install == command]
        print(f"\nfor {', '.join(users)}:\n  {command}")


HALVES = ("host", "device")


def _packages(half: "Half") -> str:
    if not half.exists:
        return "edgekit has no such half yet"
    return ", ".join(
        f"{it.name}: {it.problem}" if it.problem else f"{it.name} {it.version}"
        for it in half.packages
    )
