"""Several cameras and several models at once, on no more threads than there are cores.

Each frame of each camera is answered by each model. As many inferences run beside each other as the
cores have room for (cores / threads of a model); a camera waits for its turn, and meanwhile its
newest frame wins.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from queue import SimpleQueue

from edgekit.bundle import Bundle
from edgekit.device.answer import Answerer
from edgekit.device.capture.supply import Supply
from edgekit.device.copies import Copies
from edgekit.device.frame import Camera, Frame
from edgekit.device.loop import BROKEN_IN_A_ROW
from edgekit.device.result import Result
from edgekit.device.session import open_session
from edgekit.device.shown import shown
from edgekit.device.stats import Stats, Summary
from edgekit.errors import ImageError
from edgekit.spec import Session


class Many:
    """Running captures and the answers to their frames. Use it in a `with` block.

    Leaving it ends the captures and closes the sessions; the cameras stay their openers' to close.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        cameras: Sequence[Camera],
        sources: Sequence[str] = (),
        top: int = 3,
        limit: int = 0,
        at_once: int = 0,
    ) -> None:
        """Prepare to run.

        Args:
            bundles: at least one; each answers each frame, in this order.
            cameras: open; only this object reads them.
            sources: what the results call them; their numbers, without. Of two equal names, of
                sources or of models, the second is `NAME (2)`.
            top: answers per frame.
            limit: end after so many frames of all cameras together; 0: with the sources.
            at_once: how many inferences run beside each other; 0: as many as the cores have room
                for.
        """
        threads = max(1, *(bundle.manifest.session.threads for bundle in bundles))
        room = max((os.cpu_count() or 1) // threads, 1)
        self._at_once = min(at_once or room, len(cameras))
        self._bundles, self._top, self._limit = bundles, top, limit
        self._models = told_apart([bundle.manifest.name for bundle in bundles])
        called = told_apart([shown(s) for s in sources] or [str(n) for n in range(len(cameras))])
        ahead = len(cameras) <= self._at_once < room  # a core is left to decode on
        self._lanes = [
            _Lane(camera, name, bundles, ahead)
            for camera, name in zip(cameras, called, strict=True)
        ]
        self.names = tuple((name, model) for name in called for model in self._models)
        self.still = all(camera.kind == "stills" for camera in cameras)
        self.notes: tuple[str, ...] = ()
        self._seats: SimpleQueue[_Seat | None] = SimpleQueue()
        self._answers: SimpleQueue[_Answers] = SimpleQueue()
        self._stopped = False
        self._stack = ExitStack()

    def __enter__(self) -> "Many":
        with ExitStack() as stack:
            for _ in range(self._at_once):
                sessions = [stack.enter_context(closing(open_session(b))) for b in self._bundles]
                self.notes = tuple(note for session in sessions for note in session.notes)
                self._seats.put(
                    _Seat(sessions, self._bundles, self._models, self._lanes, self._top)
                )
            stack.callback(self._stop)
            for lane in self._lanes:
                lane.supply.start()
                lane.thread = threading.Thread(
                    target=self._work, args=(lane,), name="lane", daemon=True
                )
                lane.thread.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[Result]:
        """Answer frame after frame, each by every model; a frame is released after its last result.

        Those of one camera come in their order.

        Raises:
            EdgekitError: as a single `Loop` raises it, whichever camera it is.
        """
        running, frames = len(self._lanes), 0
        while running:
            answers = self._answers.get()
            if answers.error is not None:
                raise answers.error
            if answers.frame is None:
                running -= 1
                continue
            with answers.frame:
                yield from answers.results
            answers.lane.taken.put(None)
            frames += 1
            if frames == self._limit:
                return

    def summaries(self) -> dict[tuple[str, str], Summary]:
        """What the run cost so far, by source and model."""
        every = (stats for lane in self._lanes for stats in lane.stats)
        return {name: stats.summary() for name, stats in zip(self.names, every, strict=True)}

    @property
    def copies(self) -> Copies:
        """For outputs, which draw what the first camera saw as what all of them saw."""
        return self._lanes[0].stats[0].copies

    def _work(self, lane: "_Lane") -> None:
        """Take and answer the frames of one camera (its own thread)."""
        error: BaseException | None = None
        try:
            while not self._stopped and (found := self._next(lane)) is not None:
                self._answers.put(found)
                lane.taken.get()
        except BaseException as failure:  # raised again in the main thread
            error = failure
        self._answers.put(_Answers(lane, None, (), error))

    def _next(self, lane: "_Lane") -> "_Answers | None":
        """The answers to the next frame that is whole."""
        for broken in range(1, BROKEN_IN_A_ROW + 1):
            frame = None if lane.supply.wait() else lane.supply.take()
            seat = self._seats.get()
            if seat is None:
                self._seats.put(None)
                return None
            try:
                frame = frame or lane.supply.take()  # what is newest now
                if frame is None:
                    return None
                results = tuple(a.answer(frame) for a in seat.answerers[lane.source])
                return _Answers(lane, frame, results, None)
            except ImageError:
                assert frame is not None
                frame.release()
                if lane.supply.camera.kind != "live" or broken == BROKEN_IN_A_ROW:
                    raise
                lane.stats[0].broken += 1
            finally:
                self._seats.put(seat)
        return None

    def _stop(self) -> None:
        self._stopped = True
        for lane in self._lanes:
            lane.supply.stop()
            lane.taken.put(None)
        self._seats.put(None)
        for lane in self._lanes:
            if lane.thread is not None:
                lane.thread.join(2)
        while not self._answers.empty():
            if (frame := self._answers.get().frame) is not None:
                frame.release()


def told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Names of which each is met once: the second `a` is `a (2)`."""
    return tuple(
        f"{name} ({count})" if (count := names[: n + 1].count(name)) > 1 else name
        for n, name in enumerate(names)
    )


class _Lane:
    """One camera: its supply, what its frames cost per model, and whether its last was taken."""

    def __init__(self, camera: Camera, source: str, bundles: Sequence[Bundle], ahead: bool) -> None:
        self.source = source
        self.stats = [Stats() for _ in bundles]
        cores = bundles[0].manifest.loop.capture_cores
        self.supply = Supply(camera, self.stats[0], cores, ahead=ahead)
        for stats in self.stats[1:]:
            self.supply.tell(stats)
        self.taken: SimpleQueue[None] = SimpleQueue()
        self.thread: threading.Thread | None = None


class _Seat:
    """Room for one inference: a session per model, used by one camera at a time."""

    def __init__(
        self,
        sessions: Sequence[Session],
        bundles: Sequence[Bundle],
        models: Sequence[str],
        lanes: Sequence[_Lane],
        top: int,
    ) -> None:
        self.answerers = {
            lane.source: [
                Answerer(bundle, session, stats, lane.source, top, model)
                for bundle, model, session, stats in zip(
                    bundles, models, sessions, lane.stats, strict=True
                )
            ]
            for lane in lanes
        }
        for answerer in next(iter(self.answerers.values())):
            answerer.warm()


@dataclass(frozen=True, slots=True)
class _Answers:
    """What one camera's thread hands over: results with their frame, its end, or its error."""

    lane: _Lane
    frame: Frame | None
    results: tuple[Result, ...]
    error: BaseException | None
