"""`edgekit build`: a network -> a proven bundle."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer


def build(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            show_default=False,
            help="An architecture, a checkpoint, or package.module:function; "
            "without it, the checkpoint that edgekit carries.",
        ),
    ] = None,
    target: Annotated[
        str, typer.Option("--target", "-t", help="Device family; see `edgekit targets`.")
    ] = "linux",
    backend: Annotated[
        str | None, typer.Option(help="Another runtime than the target's own.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of the backend's compiler; may be repeated."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32, fp16 or int8, or weights alone: int8-weights, int4-weights; the target "
            "has a default."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="A .safetensors file.")
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Of the architecture, as width_mult=0.5; may be repeated."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One label a line, in order of the classes.")
    ] = None,
    contract: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Image contract (TOML), where there is no card."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Real images, for int8 and for the parity gate."),
    ] = None,
    observer: Annotated[
        Literal["auto", "minmax", "histogram", "percentile", "mse"],
        typer.Option(help="int8: how the range of an activation is chosen."),
    ] = "auto",
    correct_bias: Annotated[
        bool, typer.Option("--correct-bias", help="int8: take each channel's mean error out.")
    ] = False,
    keep_float: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="int8: a layer left in float, as 'features.0.*'."),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="int8: keep layers in float until top-1 falls by no more; wants --evaluate.",
        ),
    ] = None,
    evaluate: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Labelled images: one folder a class, or a labels.txt."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="The bundle's own directory.")
    ] = None,
    no_fallback: Annotated[
        bool,
        typer.Option("--no-fallback", help="Refuse what the accelerator does not take in full."),
    ] = False,
    dynamic: Annotated[
        str,
        typer.Option(metavar="batch", help="Let the model file take any number of images (onnx)."),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Build a bundle: export, quantise, compile, and refuse it unless it matches the network."""
    from edgekit.lower.build import build
    from edgekit.lower.int8.quantise import Ptq
    from edgekit.lower.plan import Request, parse_arguments
    from edgekit.spec import ImageSpec
    from edgekit.values import read_toml

    request = Request(
        target=target,
        model=model,
        weights=weights,
        arguments=parse_arguments(argument or ()),
        labels=labels,
        image=read_toml(ImageSpec, contract) if contract else None,
        backend=backend,
        options=parse_arguments(option or (), "--option"),
        precision=precision,
        calibration=calibration,
        ptq=Ptq(observer, tuple(keep_float or ()), correct_bias),
        max_drop=max_drop,
        evaluate=evaluate,
        out=out,
        force=force,
        no_fallback=no_fallback,
        dynamic=dynamic,
    )
    made = build(request, lambda line: print(line, file=sys.stderr, flush=True))
    for hop in made.manifest.parity:
        print(
            f"{hop.name}: SNR {hop.snr_db:.1f} dB, max error {hop.max_abs_error:.3g}, "
            f"top-1 agreement {hop.top1_agreement:.1%} of {hop.images} images",
            file=sys.stderr,
        )
    print(made.path)
