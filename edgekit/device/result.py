"""What the loop yields for each frame, and what takes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edgekit.device.decode import Prediction
from edgekit.device.frame import Frame
from edgekit.device.stats import Summary


@dataclass(frozen=True, slots=True)
class Result:
    """The answer for one frame."""

    frame: Frame
    """Lent until the loop goes on to the next one."""
    predictions: tuple[Prediction, ...]
    """Most probable first."""
    age_ms: float
    """From the frame's capture to this answer."""
    fps: float
    """Answers a second so far, for people to look at."""
    source: str = ""
    """Where the frame came from, as it was given."""
    model: str = ""
    """Which bundle answered, by its manifest's name."""
    summary: Callable[[], Summary] | None = None
    """What the run cost so far; summed up when it is called, by any thread."""
    runtime: str = ""
    """What ran the model, for people to read: `litert int8`."""

    @property
    def best(self) -> Prediction:
        """The most probable answer."""
        return self.predictions[0]


class Output(Protocol):
    """What a module in `edgekit/device/outputs` gives: `open_output(uri, copies) -> Output`.

    Holds a resource: call `close()` when done, which finishes the file.
    """

    def write(self, result: Result) -> bool:
        """Take one result, in the main thread; False asks the loop to end (a closed window).

        Raises:
            StorageError: the file cannot be written.
            BrokenPipeError: whoever read stdout went away.
        """
        ...

    def close(self) -> None:
        """Finish and free; closing again does nothing."""
        ...
