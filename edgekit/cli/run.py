"""`edgekit run`: a bundle on an image, a folder, a clip or a camera."""

import functools
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from edgekit.device.copies import Copies
    from edgekit.device.loop import Loop
    from edgekit.device.many import Many
    from edgekit.device.result import Output, Result


def run(
    bundle: Annotated[Path, typer.Argument(help="The folder that `edgekit build` wrote.")],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="An image, a folder, a clip, or a camera: v4l2:///dev/video0, csi://0, "
            "picamera://0, rtsp://HOST/PATH, synthetic://640x480@30. Several run side by side.",
        ),
    ],
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="URI",
            help="http://127.0.0.1:8080 (a live page), out.mp4, display://, json://FILE or "
            "null://; may be given more than once.",
        ),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model", metavar="BUNDLE", help="A further bundle that answers every frame, too."
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a frame on stdout, and no other text.")
    ] = False,
    stats: Annotated[
        bool,
        typer.Option(
            "--stats",
            help="Time per stage, frame age, drops and bytes copied, on stderr; with --json, as "
            "the last object on stdout.",
        ),
    ] = False,
    top: Annotated[int, typer.Option(min=1, metavar="K", help="Answers per frame.")] = 3,
    frames: Annotated[
        int, typer.Option(min=0, metavar="N", help="End after N frames; 0: with the source.")
    ] = 0,
    capture: Annotated[
        Literal["auto", "thread", "process"] | None,
        typer.Option(
            help="Where a live camera is read: in a thread, or in a process of its own. Without "
            "it, as the bundle says."
        ),
    ] = None,
    overlap: Annotated[
        bool, typer.Option("--overlap", help="Prepare a frame while another one is inferred.")
    ] = False,
) -> None:
    """Say what is in an image, a folder, a clip, or before a camera.

    Of a clip, every frame is used; `clip.mp4?pace=realtime` plays it as a camera would. A camera
    that stalls or is unplugged is opened again. Ctrl-C ends cleanly: the camera is released, a
    video that is being written is finished.
    """
    import dataclasses

    from edgekit import bundle as bundles
    from edgekit.device.running import running

    opened = [bundles.read(path) for path in (bundle, *(model or ()))]
    options = dataclasses.replace(
        opened[0].manifest.loop,
        overlap=overlap or opened[0].manifest.loop.overlap,
        capture=capture or opened[0].manifest.loop.capture,
    )
    with (
        running(opened, sources, top, frames, options) as loop,
        _outputs([*(output or ()), *(["json://-"] if json else [])], loop.copies) as outputs,
    ):
        for note in loop.notes if stats else ():
            print(note, file=sys.stderr)
        try:
            _say_all(loop, outputs, quiet=json)
        finally:  # also when interrupted: what was seen so far is worth its numbers
            _sum_up(loop, json, stats)


def _say_all(loop: "Loop | Many", outputs: "list[Output]", quiet: bool) -> None:
    """Pass each result to the outputs, and print what a person wants to read of its source."""
    from edgekit.device.notify import Notifier
    from edgekit.device.seen import SeenBy

    seen = SeenBy(loop.names)
    with Notifier() as notifier:
        try:
            for result in loop:
                if not quiet:
                    _print(_still(result) if result.frame.name else seen.add(result))
                if not all([output.write(result) for output in outputs]):
                    break
                notifier.answered(functools.partial(_line, result))
        finally:
            for second in () if quiet else seen.finish():
                _print(second)


def _line(result: "Result") -> str:
    return result.summary().line if result.summary else ""


def _sum_up(loop: "Loop | Many", json: bool, stats: bool) -> None:
    from edgekit.device.stats import as_json, table

    summaries = loop.summaries()
    for (source, name), summary in summaries.items():
        title = f"{source}, {name}: " if len(summaries) > 1 else ""
        if summary.frames and not json and not loop.still:
            print(f"{title}{summary.line}")
        if stats and title:
            print(title, file=sys.stderr)
        if stats:
            print(table(summary), file=sys.stderr)
    if stats and json:
        print(as_json(summaries), flush=True)


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
