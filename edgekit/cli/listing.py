"""`edgekit targets` and `edgekit architectures`: what there is to choose from."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def targets(json: Json = False) -> None:
    """List the device families that a bundle can be built for."""
    from edgekit import plugins
    from edgekit.cli.show import print_json, print_table

    found = [plugins.target(name) for name in plugins.targets()]
    if json:
        print_json(found)
        return
    print_table(
        ("target", "backend", "precision", "camera", "summary"),
        [(it.name, it.backend, it.precision, it.camera, it.summary) for it in found],
    )


def architectures(json: Json = False) -> None:
    """List the network architectures that come with edgekit."""
    from edgekit import plugins
    from edgekit.cli.show import print_json, print_table

    found = [
        {"name": name, "title": plugins.title(name), "file": str(plugins.architecture_file(name))}
        for name in plugins.architectures()
    ]
    if json:
        print_json(found)
        return
    print_table(("architecture", "title"), [(it["name"], it["title"]) for it in found])
