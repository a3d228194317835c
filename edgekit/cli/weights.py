"""`edgekit weights`: bring in checkpoints that others made."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgekit.published import Published

app = typer.Typer(
    help="Bring in checkpoints that others made.", no_args_is_help=True, rich_markup_mode=None
)

Labels = Annotated[
    Path | None, typer.Option(metavar="FILE", help="One label a line, in order of the classes.")
]


@app.command("import", short_help="Turn a .pth or .safetensors into a checkpoint with a card.")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .pth, .pt or .safetensors file.")],
    architecture: Annotated[
        str, typer.Option("--architecture", "-a", help="See `edgekit architectures`.")
    ],
    argument: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Of the architecture, where shapes do not tell, as stem_stride=1; "
            "may be repeated.",
        ),
    ] = None,
    labels: Labels = None,
    contract: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Image contract (TOML); default: torchvision's for ImageNet."
        ),
    ] = None,
    license: Annotated[str, typer.Option(metavar="TEXT", help="For the card.")] = "unknown",
    trained_on: Annotated[str, typer.Option(metavar="TEXT", help="For the card.")] = "unknown",
    partial: Annotated[
        bool, typer.Option("--partial", help="Initialise what is missing, as a head.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Default: ./ and the file's name."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Turn a weights file that others wrote into a checkpoint with a card.

    Names and shapes are held to the architecture's; a pickle is never run, only read for tensors.
    """
    from edgekit.published import IMAGENET
    from edgekit.spec import ImageSpec
    from edgekit.values import read_toml

    _needs_torch("importing weights")
    from edgekit.lower.plan import parse_arguments
    from edgekit.weights.adopt import Origin, adopt

    origin = Origin(
        architecture=architecture,
        arguments=parse_arguments(argument or ()),
        image=read_toml(ImageSpec, contract) if contract else IMAGENET,
        license=license,
        trained_on=trained_on,
    )
    name = Path(file.name.removesuffix(".tar")).with_suffix(".safetensors")
    print(adopt(file, origin, out or name, _say, labels, partial, force))


@app.command("list", short_help="List the checkpoints that others publish.")
def list_(
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """List the checkpoints that `edgekit weights pull` knows; reaches no network.

    The digest is what is published of it: all 64 digits of the SHA-256, or the first ones.
    """
    from edgekit import checkpoint
    from edgekit.cli.show import print_json, print_table
    from edgekit.published import catalogue

    found, here = catalogue().checkpoints, set(checkpoint.names())
    if json:
        print_json(found)
        return
    print_table(
        ("checkpoint", "top-1/%", "input", "licence", "sha256", "here"),
        [
            (
                it.name,
                f"{it.top1:.2%}".rstrip("%"),
                f"{it.image.width}x{it.image.height}",
                it.license.partition(" (")[0],
                _short(it),
                "yes" if it.name in here else "",
            )
            for it in found
        ],
        right=("top-1/%",),
    )


@app.command(short_help="Fetch a published checkpoint, check and import it.")
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="See `edgekit weights list`.")],
    mirror: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|URL",
            envvar="EDGEKIT_MIRROR",
            help="A folder, or the address of one, that holds the files.",
        ),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="The whole digest, where none is published."),
    ] = None,
    labels: Labels = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="Default: the weights folder, found by NAME."
        ),
    ] = None,
) -> None:
    """Fetch a published checkpoint, hold it to its digest, and import it with a card.

    The only verb that reaches the network. An interrupted download is gone on with. Afterwards
    NAME stands for it wherever a checkpoint is wanted.
    """
    from edgekit import checkpoint
    from edgekit.cli.watch import watching
    from edgekit.published import find
    from edgekit.weights.download import alone, download, is_folder

    entry = find(name)
    wanted = out or checkpoint.folder() / f"{name}.safetensors"
    checkpoint.check_name(wanted)
    folder = checkpoint.folder() / "downloads"
    with watching() as watch, nullcontext() if is_folder(mirror or "") else alone(folder, watch):
        if checkpoint.is_from(wanted, entry):
            watch.line(f"{wanted} is here already; remove it to fetch it anew")
        else:
            if out:
                checkpoint.check_free(out)
            file = download(entry, folder, watch, mirror, sha256)
            _needs_torch(f"importing {file}, which is fetched and right,")
            from edgekit.weights.adopt import Origin, adopt

            adopt(file, Origin.of(entry), wanted, watch.line, labels, force=True)
            if file.parent == folder:
                file.unlink()
    print(wanted)


def _short(entry: "Published") -> str:
    return f"{entry.sha256[:10]}..." if entry.sha256 else "not published"


def _needs_torch(purpose: str) -> None:
    from importlib.util import find_spec

    from edgekit.errors import MissingPackage

    if find_spec("torch") is None:
        raise MissingPackage("torch", "host", purpose)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
