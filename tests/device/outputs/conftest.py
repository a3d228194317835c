"""Results to write, without a loop."""

from collections.abc import Callable

import numpy as np
import pytest

from edgekit.device.decode import Prediction
from edgekit.device.frame import Frame, nothing
from edgekit.device.picture import Picture, rgb
from edgekit.device.result import Result
from edgekit.device.stats import Stats

PREDICTIONS = (Prediction(2, "Château", 0.75), Prediction(0, "cat", 0.25))


@pytest.fixture
def make_result() -> Callable[..., Result]:
    """Makes the result for frame `number`; a red picture unless another is given."""

    def make(
        number: int = 0, picture: Picture | None = None, source: str = "synthetic://8x6@1",
        model: str = "colours", stats: Stats | None = None,
    ) -> Result:  # fmt: skip
        if picture is None:
            picture = rgb(np.full((48, 64, 3), (200, 20, 20), np.uint8))
        frame = Frame(picture, number, 5_000 + number, number / 10, nothing)
        summary = stats.summary if stats else None
        return Result(frame, PREDICTIONS, 8.1234, 29.9, source, model, summary)

    return make
