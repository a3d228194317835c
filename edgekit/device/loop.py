"""The loop: a camera lends frames, a session answers them.

    with open_camera("clip.mp4") ... as camera, Loop(bundle, session, camera) as loop:
        for result in loop:
            print(result.best.label)

A thread, or a process, captures while the main thread infers. From a live camera the latest frame
wins; of a file every frame is used. Each frame is prepared straight into the model's own input
memory.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack

from edgekit.bundle import Bundle
from edgekit.device.answer import Answerer
from edgekit.device.capture.overlap import Ahead
from edgekit.device.capture.supply import Supply
from edgekit.device.copies import Copies
from edgekit.device.frame import Camera
from edgekit.device.result import Result
from edgekit.device.shown import shown
from edgekit.device.stats import Stats, Summary
from edgekit.errors import ImageError
from edgekit.spec import Session

BROKEN_IN_A_ROW = 30
"""Frames of a live camera that may be broken one after the other."""


class Loop:
    """A running capture and the answers to its frames. Use it in a `with` block.

    Leaving the block ends the capture; the session and the camera stay their openers' to close.
    """

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        camera: Camera,
        top: int = 3,
        limit: int = 0,
        *,
        overlap: bool | None = None,
        source: str = "",
    ) -> None:
        """Prepare to run.

        Args:
            bundle: gives the image contract and the labels.
            session: of that bundle.
            camera: open; only this loop reads it.
            top: answers per frame.
            limit: end after so many frames; 0: with the source.
            overlap: prepare the next frame in a thread of its own while one is inferred. Pays where
                preparing takes long and a core is free; a live frame gets older by it. None: as
                the bundle says.
            source: what the results say of where they come from.
        """
        self.stats = Stats()
        self._limit, self._kind = limit, camera.kind
        source = shown(source)
        self.names = ((source, bundle.manifest.name),)
        self.still = camera.kind == "stills"
        self.notes = session.notes
        options = bundle.manifest.loop
        self._supply = Supply(camera, self.stats, options.capture_cores)
        self._answerer = Answerer(bundle, session, self.stats, source, top)
        self._ahead = (
            Ahead(self._supply, self._answerer, options.capture_cores)
            if (options.overlap if overlap is None else overlap)
            else None
        )

    def __enter__(self) -> "Loop":
        self._answerer.warm()
        self._supply.start()
        if self._ahead is not None:
            self._ahead.start()
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            if self._ahead is not None:
                stack.callback(self._ahead.stop)
            stack.callback(self._supply.stop)

    def __iter__(self) -> Iterator[Result]:
        """Answer frame after frame; each result's frame is released before the next.

        Raises:
            SourceUnavailable: the camera went away and did not come back.
            ImageError: a file of the source cannot be decoded, or too many frames of a camera.
            CheckFailed: the model's output is not finite.
        """
        for number in itertools.count(1):
            answered = self._next()
            if answered is None:
                return
            with answered.frame:
                started = time.perf_counter_ns()
                yield answered
                self.stats.stages["output"].add(time.perf_counter_ns() - started)
            if number == self._limit:
                return

    def summary(self) -> Summary:
        """What the run cost so far."""
        return self.stats.summary()

    def summaries(self) -> dict[tuple[str, str], Summary]:
        """The same by source and model, as `Many` has it."""
        return {self.names[0]: self.summary()}

    @property
    def copies(self) -> Copies:
        """For outputs, to count what they copy."""
        return self.stats.copies

    def _next(self) -> Result | None:
        """The answer to the next frame that is whole; its frame is lent."""
        for broken in itertools.count(1):
            if self._ahead is not None:
                frame, staged = self._ahead.take()
            else:
                frame, staged = self._supply.take(), None
            if frame is None:
                return None
            try:
                return self._answerer.answer(frame, staged)
            except ImageError:
                frame.release()
                if self._kind != "live" or broken == BROKEN_IN_A_ROW:
                    raise
                self.stats.broken += 1
            except BaseException:
                frame.release()
                raise
        return None
