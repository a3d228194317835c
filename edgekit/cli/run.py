"""`edgekit run`: a bundle on an image, a folder, a clip or a camera."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgekit.device.copies import Copies
    from edgekit.device.frame import Kind
    from edgekit.device.result import Output, Result


def run(
    bundle: Annotated[Path, typer.Argument(help="The folder that `edgekit build` wrote.")],
    source: Annotated[
        str,
        typer.Argument(
            help="An image, a folder, a clip, or a camera: v4l2:///dev/video0, csi://0, "
            "synthetic://640x480@30."
        ),
    ],
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="URI",
            help="out.mp4, display://, json://FILE or null://; may be given more than once.",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a frame on stdout, and no other text.")
    ] = False,
    stats: Annotated[
        bool,
        typer.Option(
            "--stats", help="Time per stage, frame age, drops and bytes copied, on stderr."
        ),
    ] = False,
    top: Annotated[int, typer.Option(min=1, metavar="K", help="Answers per frame.")] = 3,
    frames: Annotated[
        int, typer.Option(min=0, metavar="N", help="End after N frames; 0: with the source.")
    ] = 0,
) -> None:
    """Say what is in an image, a folder, a clip, or before a camera.

    Of a clip, every frame is used; `clip.mp4?pace=realtime` plays it as a camera would. Ctrl-C
    ends cleanly: the camera is released, a video that is being written is finished.
    """
    from edgekit import bundle as bundles
    from edgekit.device.loop import Loop
    from edgekit.device.session import open_session
    from edgekit.device.stats import table
    from edgekit.device.uri import open_camera

    opened = bundles.read(bundle)
    with (
        closing(open_session(opened)) as session,
        closing(open_camera(source)) as camera,
        Loop(opened, session, camera, top, frames) as loop,
        _outputs([*(output or ()), *(["json://-"] if json else [])], loop.stats.copies) as outputs,
    ):
        for note in session.notes if stats else ():
            print(note, file=sys.stderr)
        try:
            _say_all(iter(loop), outputs, camera.kind, quiet=json)
        finally:  # also when interrupted: what was seen so far is worth its numbers
            summary = loop.summary()
            if summary.frames and camera.kind != "stills" and not json:
                print(summary.line)
            if stats:
                print(table(summary), file=sys.stderr)


def _say_all(
    results: "Iterator[Result]", outputs: "list[Output]", kind: "Kind", quiet: bool
) -> None:
    """Pass each result to the outputs, and print what a person wants to read of this source."""
    from edgekit.device.seen import Seen

    seen = Seen()
    try:
        for result in results:
            if not quiet and kind == "stills":
                _print(_still(result))
            elif not quiet:
                _print(seen.add(result))
            if not all([output.write(result) for output in outputs]):
                break
    finally:
        _print(seen.finish())


def _still(result: "Result") -> str:
    answers = ", ".join(f"{p.label} {p.probability * 100:.1f} %" for p in result.predictions)
    return f"{result.frame.name}: {answers}"


def _print(line: object) -> None:
    if line is not None:
        print(line, flush=True)


@contextmanager
def _outputs(uris: list[str], copies: "Copies") -> "Iterator[list[Output]]":
    """Open all outputs; close those that were opened, whatever happens."""
    from edgekit.device.uri import open_output

    with ExitStack() as stack:
        yield [stack.enter_context(closing(open_output(uri, copies))) for uri in uris]
