"""What was seen, second by second, for people."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekit.device.result import Result


@dataclass(frozen=True, slots=True)
class Second:
    """The answers of one second of a clip or a camera."""

    second: int
    """Of the source's own time."""
    label: str
    """Most often the best answer."""
    probability: float
    """Its mean over those frames, in [0, 1]."""
    agreed: int
    """Frames with that best answer."""
    frames: int

    def __str__(self) -> str:
        return (
            f"{self.second // 60}:{self.second % 60:02d} {self.label} "
            f"{self.probability * 100:.0f} % ({self.agreed} of {self.frames} frames)"
        )


class Seen:
    """Collects the best answers of the running second."""

    def __init__(self) -> None:
        self._second = 0
        self._counts: Counter[str] = Counter()
        self._probabilities: defaultdict[str, float] = defaultdict(float)

    def add(self, result: Result) -> Second | None:
        """Take one answer; gives the second that it ended, if it ended one."""
        second = int(result.frame.time_s)
        ended = self.finish() if second != self._second else None
        self._second = second
        self._counts[result.best.label] += 1
        self._probabilities[result.best.label] += result.best.probability
        return ended

    def finish(self) -> Second | None:
        """The running second, and forget it; None if it had no frames."""
        if not self._counts:
            return None
        label, agreed = self._counts.most_common(1)[0]
        mean = self._probabilities[label] / agreed
        ended = Second(self._second, label, mean, agreed, self._counts.total())
        self._counts.clear()
        self._probabilities.clear()
        return ended


class SeenBy:
    """The same for several cameras and models, each line with its name if there is more than one.

    Their names are (source, model), as results have them.
    """

    def __init__(self, names: Sequence[tuple[str, str]]) -> None:
        """Collect for each of `names`."""
        self._seen = {name: Seen() for name in names}

    def add(self, result: Result) -> str | None:
        """Take one answer; gives a line for the second that it ended, if it ended one."""
        name = (result.source, result.model)
        second = self._seen[name].add(result)
        return None if second is None else self._line(name, second)

    def finish(self) -> Iterator[str]:
        """Lines for the running seconds, and forget them."""
        for name, seen in self._seen.items():
            if second := seen.finish():
                yield self._line(name, second)

    def _line(self, name: tuple[str, str], second: Second) -> str:
        return f"{name[0]}, {name[1]}: {second}" if len(self._seen) > 1 else str(second)
