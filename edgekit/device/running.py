"""From bundles and sources to a running loop, everything opened and closed again."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

from edgekit.bundle import Bundle
from edgekit.device.loop import Loop
from edgekit.device.many import Many
from edgekit.device.session import open_session
from edgekit.device.uri import open_camera
from edgekit.spec import LoopOptions


@contextmanager
def running(
    bundles: Sequence[Bundle],
    sources: Sequence[str],
    top: int = 3,
    limit: int = 0,
    options: LoopOptions | None = None,
) -> Iterator[Loop | Many]:
    """A loop over one source and one bundle, or over several of either.

    Args:
        bundles: at least one, as `edgekit.bundle.read` gives it.
        sources: at least one, as `open_camera` takes it.
        top: answers per frame.
        limit: end after so many frames; 0: with the sources.
        options: where to capture; None: as the first bundle says.

    Raises:
        EdgekitError: as `open_session` and `open_camera` raise it.
    """
    if options is not None:
        bundles = [replace(b, manifest=replace(b.manifest, loop=options)) for b in bundles]
    first = bundles[0]
    with ExitStack() as stack:
        if len(bundles) == len(sources) == 1:
            session = stack.enter_context(closing(open_session(first)))
            camera = stack.enter_context(closing(open_camera(sources[0], first.manifest.loop)))
            yield stack.enter_context(Loop(first, session, camera, top, limit, source=sources[0]))
        else:
            cameras = [
                stack.enter_context(closing(open_camera(source, first.manifest.loop)))
                for source in sources
            ]
            yield stack.enter_context(Many(bundles, cameras, sources, top, limit))
