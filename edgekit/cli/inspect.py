"""`edgekit inspect`: what is in a bundle or a network."""

import os
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgekit.bundle import Bundle
    from edgekit.cost.layers import Cost
    from edgekit.lower.network import Network
    from edgekit.lower.sketch import Flow


def inspect(
    what: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE|MODEL",
            help="A bundle folder, an architecture, a checkpoint, or package.module:function.",
        ),
    ],
    argument: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Of the network, as width_mult=0.5; may be repeated."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="SIDE|WxH", help="Of the network's image, as 96 or 160x128."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Say what is in a bundle (every byte is verified first) or what a network costs.

    MACs are those of convolutions and linear layers, as the papers count them.
    """
    if not _means_a_bundle(what):
        _inspect_model(what, argument or [], size, json)
        return
    if argument or size:
        from edgekit.errors import InputError

        raise InputError(f"'{what}' is a bundle: --argument and --size are for networks")
    _inspect_bundle(Path(what), json)


def _means_a_bundle(what: str) -> bool:
    """A folder with a manifest, then names of models, then whatever looks like a path."""
    from edgekit import plugins

    path = Path(what)
    if (path / "manifest.json").exists():
        return True
    if what in plugins.architectures() or path.suffix == ".safetensors" or ":" in what:
        return False
    return path.exists() or "/" in what or os.sep in what or path.suffix in (".tflite", ".onnx")


def _inspect_bundle(path: Path, json: bool) -> None:
    from edgekit.bundle import read
    from edgekit.cli.show import print_json
    from edgekit.device.describe import operators, placement, placement_lines

    found = read(path)
    counts, why = _if_known(operators, found)
    placed, unplaced = _if_known(placement, found)
    if json:
        print_json(
            {
                "bundle": path,
                "bytes": found.size,
                "operators": counts,
                "placement": placed,
                "labels": found.labels,
                "manifest": found.manifest,
            }
        )
        return
    _print_facts(found)
    _print_proof(found)
    print()
    listed = ", ".join(f"{name} {count}" for name, count in (counts or {}).items())
    print(f"operators: {why or listed}")
    lines = placement_lines(placed) if placed else (f"what falls back is not known: {unplaced}",)
    print(*(fill(line, 100, subsequent_indent="  ") for line in lines), sep="\n")
    for note in found.manifest.notes:
        print(f"note: {note}")


def _if_known(ask: "Callable[[Bundle], T]", found: "Bundle") -> "tuple[T | None, str]":
    """What `ask` says of a bundle, or why it cannot tell."""
    from edgekit.errors import MissingPackage, SpecError, UnknownName

    try:
        return ask(found), ""
    except (MissingPackage, SpecError, UnknownName) as error:
        return None, str(error)


def _print_facts(found: "Bundle") -> None:
    from edgekit.cli.show import print_facts
    from edgekit.device.describe import image_contract, options, tensor

    manifest = found.manifest
    made_of = manifest.provenance
    print_facts(
        {
            "bundle": str(found.path),
            "name": manifest.name,
            "target": f"{manifest.target} ({manifest.backend}, {manifest.precision})",
            "session": options(manifest.session),
            "input": "; ".join(map(tensor, manifest.inputs)),
            "output": "; ".join(map(tensor, manifest.outputs)) + f", {manifest.decoding}",
            "labels": f"{len(found.labels)}: {', '.join(found.labels[:3])}"
            + (" ..." if len(found.labels) > 3 else ""),
        }
    )
    print("\nfrom camera pixels to the network:")
    for number, step in enumerate(image_contract(manifest.image), 1):
        print(f"  {number}. {step}")
    print()
    arguments = ", ".join(f"{key}={value}" for key, value in made_of.arguments.items())
    print_facts(
        {
            "made of": f"{made_of.architecture}({arguments})",
            "checkpoint": made_of.checkpoint_sha256[:16],
            "calibration": f"{made_of.calibration_images} images"
            if made_of.calibration_images
            else "",
            "tools": ", ".join(f"{key} {value}" for key, value in made_of.tools.items()),
        }
    )


def _print_proof(found: "Bundle") -> None:
    from edgekit.cli.show import print_table
    from edgekit.device.describe import hop

    manifest = found.manifest
    if manifest.parity:
        print()
        columns = ("parity", "images", "max error", "SNR/dB", "top-1 agreement")
        print_table(columns, [hop(each) for each in manifest.parity], right=columns[1:])
    if manifest.accuracy is not None:
        it = manifest.accuracy
        print(f"\naccuracy: top-1 {it.top1:.2%} of {it.images} images ({it.data})")
    print()
    print_table(
        ("file", "bytes", "sha256"),
        [(entry.path, str(entry.size), entry.sha256[:16]) for entry in manifest.files],
        right=("bytes",),
    )


def _inspect_model(name: str, argument: list[str], size: str | None, json: bool) -> None:
    from edgekit.cli.show import print_json
    from edgekit.errors import MissingPackage

    if find_spec("torch") is None:
        raise MissingPackage("torch", "host", f"inspecting the network '{name}'")
    from edgekit.cost.layers import cost
    from edgekit.lower import sketch
    from edgekit.lower.plan import parse_arguments

    network = sketch.sketch(
        name, parse_arguments(argument), sketch.parse_size(size) if size else None
    )
    found, flow = cost(network.module, network.image), sketch.flow(network)
    unfolded = sketch.unfolded_parameters(network)
    if not json:
        _print_network(network, found, flow, unfolded)
        _print_history(name)
        return
    print_json(
        {
            "model": network.name,
            "arguments": network.arguments,
            "image": network.image,
            "classes": network.classes,
            "parameters": found.parameters,
            "parameters_unfolded": unfolded or found.parameters,
            "macs": found.macs,
            "peak_activation_bytes": flow.peak and flow.peak.bytes,
            "peak_activation_layer": flow.peak and flow.peak.layer,
            "receptive_field": flow.field and flow.field.pixels,
            "feature_stride": flow.field and flow.field.stride,
            "feature_strides": flow.field and flow.field.strides,
            "unknown": flow.unknown,
            "layers": found.layers,
        }
    )


def _print_history(name: str) -> None:
    """How a checkpoint came about, step by step."""
    from edgekit import checkpoint
    from edgekit.cli.show import print_table

    card = checkpoint.card_of(name)
    if card is None or not card.history:
        return
    columns = ("step", "kind", "recipe", "seed", "top-1", "M MACs", "M parameters", "weights")
    print()
    print_table(
        columns,
        [
            (
                made.step,
                made.kind,
                made.recipe,
                str(made.seed),
                "" if made.accuracy is None else f"{made.accuracy:.2%}",
                f"{made.macs / 1e6:.2f}",
                f"{made.parameters / 1e6:.3f}",
                (made.sha256 or card.sha256)[:16],
            )
            for made in card.history
        ],
        right=columns[3:7],
    )


def _print_network(network: "Network", found: "Cost", flow: "Flow", unfolded: int | None) -> None:
    from edgekit.cli.show import print_facts
    from edgekit.cost import layers, memory, receptive

    size = f"{network.image.width}x{network.image.height}"
    peak, field = flow.peak, flow.field
    print_facts(
        {
            "model": network.name,
            "arguments": ", ".join(f"{key}={value}" for key, value in network.arguments.items()),
            "input": f"{size} RGB",
            "classes": str(network.classes),
            "parameters": f"{found.parameters:,}"
            + (f" with batch norm folded, {unfolded:,} with it apart" if unfolded else ""),
            "MACs": f"{found.macs / 1e6:.1f} M at {size}",
            "peak memory": f"{peak.bytes / 1e6:.2f} MB of activations in float32, "
            f"{peak.bytes / 4e6:.2f} MB in int8"
            if peak
            else "unknown",
            "at": peak.layer if peak else "",
            "receptive field": f"{field.pixels} px at stride {field.stride}"
            if field
            else "unknown",
            "feature strides": ", ".join(map(str, field.strides)) if field else "",
        }
    )
    print()
    _print_layers(found)
    print()
    for line in (layers.COUNTED, memory.COUNTED, receptive.COUNTED):
        print(fill(line, 100))
    for line in flow.unknown:
        print(f"unknown: {line}")


def _print_layers(found: "Cost") -> None:
    """A line a layer in order of execution, what no layer has, and the sum; 100 columns."""
    from edgekit.cli.show import print_table

    rows = [
        (
            each.name if len(each.name) <= 32 else f"...{each.name[-29:]}",
            each.kind,
            "x".join(map(str, each.output[1:])),
            f"{each.parameters:,}",
            f"{each.macs / 1e6:.2f} M",
            f"{each.macs / max(found.macs, 1):.1%}",
        )
        for each in found.layers
    ]
    rest = found.parameters - sum(each.parameters for each in found.layers)
    if rest:
        rows.append(("batch norm and others", "", "", f"{rest:,}", "", ""))
    rows.append(("total", "", "", f"{found.parameters:,}", f"{found.macs / 1e6:.2f} M", "100.0%"))
    columns = ("layer", "kind", "output", "parameters", "MACs", "share")
    print_table(columns, rows, right=columns[2:])
