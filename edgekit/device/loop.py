"""The loop: a camera lends frames, a session answers them.

    with open_camera("clip.mp4") ... as camera, Loop(bundle, session, camera) as loop:
        for result in loop:
            print(result.best.label)

A thread captures while the main thread infers. From a live camera the latest frame wins; of a file
every frame is used. Each frame is prepared straight into the model's own input memory.
"""

import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from types import TracebackType

import numpy as np

from edgekit.bundle import Bundle
from edgekit.device.decode import top_k
from edgekit.device.frame import Camera, Frame
from edgekit.device.image import Preparer
from edgekit.device.packages import opencv
from edgekit.device.result import Result
from edgekit.device.slots import Every, Latest
from edgekit.device.stats import Stats, Summary
from edgekit.spec import Session

_JOIN_S = 6.0  # longer than a camera's driver may hold its reader


class Loop:
    """A running capture thread and the answers to its frames. Use it in a `with` block.

    Leaving the block ends the thread; the session and the camera stay their openers' to close.
    """

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        camera: Camera,
        top: int = 3,
        limit: int = 0,
    ) -> None:
        """Prepare to run.

        Args:
            bundle: gives the image contract and the labels.
            session: of that bundle.
            camera: open; only this loop reads it.
            top: answers per frame.
            limit: end after so many frames; 0: with the source.
        """
        self.stats = Stats()
        self._prepare = Preparer(bundle.manifest.image, self.stats.copies)
        self._labels = bundle.labels
        self._session, self._camera = session, camera
        self._top, self._limit = top, limit
        self._handover = Latest() if camera.kind == "live" else Every()
        self._thread = threading.Thread(target=self._capture, name="capture", daemon=True)

    def __enter__(self) -> "Loop":
        # One thread for pixels: resizing to a model's input gains nothing from more, and OpenCV's
        # pool would take cores from the model in uneven bites.
        opencv("running a camera").setNumThreads(1)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._handover.stop()
        # A driver that hangs inside a read cannot be interrupted: the thread is a daemon, and the
        # process may end without it.
        self._thread.join(_JOIN_S)
        self._handover.stop()  # what was put between the two lines above

    def __iter__(self) -> Iterator[Result]:
        """Answer frame after frame; each result's frame is released before the next.

        Raises:
            SourceUnavailable: the camera went away or gave nothing within the deadline.
            ImageError: a file of the source cannot be decoded.
            CheckFailed: the model's output is not finite.
        """
        for number in itertools.count(1):
            waited = time.perf_counter_ns()
            frame = self._handover.take(self._camera.deadline_s)
            if frame is None:
                return
            self.stats.stages["wait"].add(time.perf_counter_ns() - waited)
            with frame:
                result = self._answer(frame)
                started = time.perf_counter_ns()
                yield result
                self.stats.stages["output"].add(time.perf_counter_ns() - started)
            if number == self._limit:
                return

    def summary(self) -> Summary:
        """What the run cost so far."""
        return self.stats.summary(self._handover.dropped, (self._camera.copies,))

    def _answer(self, frame: Frame) -> Result:
        name = self._session.inputs[0].name
        prepare_ns = 0

        def fill(inputs: Mapping[str, np.ndarray]) -> None:
            nonlocal prepare_ns
            begun = time.perf_counter_ns()
            out = inputs[name][0]
            self._prepare(frame.picture, out)
            prepare_ns = time.perf_counter_ns() - begun

        started = time.perf_counter_ns()
        outputs = self._session.run(fill)
        ran = time.perf_counter_ns()
        logits = outputs[self._session.outputs[0].name]
        predictions = top_k(logits, self._labels, self._top)
        done = time.perf_counter_ns()
        self.stats.copies.add("output", "logits", sum(o.nbytes for o in outputs.values()))
        stages = self.stats.stages
        stages["prepare"].add(prepare_ns)
        stages["infer"].add(ran - started - prepare_ns)
        stages["decode"].add(done - ran)
        age_ms, fps = self.stats.answered(frame.captured_ns)
        return Result(frame, predictions, age_ms, fps)

    def _capture(self) -> None:
        """Read until the source ends, fails, or the loop stops (the capture thread)."""
        error: BaseException | None = None
        try:
            while not self._handover.ended:
                started = time.perf_counter_ns()
                frame = self._camera.read()
                if frame is None:
                    break
                self.stats.stages["capture"].add(time.perf_counter_ns() - started)
                self._handover.put(frame)
        except BaseException as failure:  # raised again in the main thread, by `take`
            error = failure
        self._handover.end(error)
