"""From one frame to its answer: prepare into the model's input, infer, decode, and count."""

import time
from collections.abc import Mapping

import numpy as np

from edgekit.bundle import Bundle
from edgekit.device.decode import top_k
from edgekit.device.frame import Frame
from edgekit.device.image import Preparer
from edgekit.device.result import Result
from edgekit.device.stats import Stats
from edgekit.spec import Session


class Answerer:
    """One model for the frames of one source. One thread at a time uses it."""

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        stats: Stats,
        source: str = "",
        top: int = 3,
        model: str = "",
    ) -> None:
        """Keep what is needed.

        Args:
            bundle: gives the image contract and the labels.
            session: of that bundle.
            stats: counts time and bytes.
            source: what the results say of where they come from.
            top: answers per frame.
            model: what the results call the bundle; without it, its own name.
        """
        image = bundle.manifest.image
        self.staging_shape = (image.height, image.width, 3)
        self._prepare = Preparer(image, stats.copies)
        self._labels, self._model = bundle.labels, model or bundle.manifest.name
        self._runtime = f"{bundle.manifest.backend} {bundle.manifest.precision}"
        self._session, self._stats, self._source, self._top = session, stats, source, top
        self._input, self._output = session.inputs[0].name, session.outputs[0].name
        self._frame: Frame | None = None
        self._staged: np.ndarray | None = None
        self._prepare_ns = 0

    def warm(self, runs: int = 2) -> None:
        """Run a grey picture, so that the runtime has allocated all that it needs."""
        grey = np.full(self.staging_shape, 128, np.uint8)
        for _ in range(runs):
            self._session.run(lambda inputs: np.copyto(inputs[self._input][0], grey))

    def ahead(self, frame: Frame, staging: np.ndarray) -> None:
        """Prepare `frame` into memory of ours, (height, width, 3) uint8, to be answered later.

        Raises:
            ImageError: the frame is a JPEG that cannot be decoded.
        """
        begun = time.perf_counter_ns()
        self._prepare(frame.picture, staging)
        self._stats.stages["prepare"].add(time.perf_counter_ns() - begun)

    def answer(self, frame: Frame, staged: np.ndarray | None = None) -> Result:
        """Answer one frame.

        Args:
            frame: lent for as long as the result is used.
            staged: what `ahead` made of it; without it, it is prepared now, straight into the
                session's own input.

        Raises:
            ImageError: the frame is a JPEG that cannot be decoded.
            CheckFailed: the model's output is not finite.
        """
        self._frame, self._staged = frame, staged
        started = time.perf_counter_ns()
        outputs = self._session.run(self._fill)
        ran = time.perf_counter_ns()
        self._frame = self._staged = None
        predictions = top_k(outputs[self._output], self._labels, self._top)
        done = time.perf_counter_ns()
        stats = self._stats
        stats.copies.add("output", "logits", sum(o.nbytes for o in outputs.values()))
        if staged is None:
            stats.stages["prepare"].add(self._prepare_ns)
        stats.stages["infer"].add(ran - started - self._prepare_ns)
        stats.stages["decode"].add(done - ran)
        age_ms, fps = stats.answered(frame)
        return Result(
            frame, predictions, age_ms, fps, self._source, self._model, stats.summary, self._runtime
        )

    def _fill(self, inputs: Mapping[str, np.ndarray]) -> None:
        begun = time.perf_counter_ns()
        out = inputs[self._input][0]
        if self._staged is not None:
            # A copy of a model's input, not of a frame: what lets the preparing overlap.
            np.copyto(out, self._staged)
            self._stats.copies.add("input", "prepared ahead", out.nbytes)
        elif self._frame is not None:
            self._prepare(self._frame.picture, out)
        self._prepare_ns = time.perf_counter_ns() - begun
