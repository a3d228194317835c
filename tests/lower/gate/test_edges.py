import numpy as np
import pytest

from edgekit.device.image import read_image
from edgekit.errors import ParityError
from edgekit.lower.gate import edges
from edgekit.spec import ImageSpec


def test_every_edge_is_what_it_is_called() -> None:
    frames = edges.frames()
    shapes = {name: frame.shape[:2] for name, frame in frames.items()}
    assert shapes["very wide"][1] > 30 * shapes["very wide"][0]
    assert shapes["very tall"][0] > 30 * shapes["very tall"][1]
    assert (shapes["one pixel high"][0], shapes["one pixel"]) == (1, (1, 1))
    assert {frame.dtype for frame in frames.values()} == {np.dtype(np.uint8)}
    assert all(frame.shape[2] == 3 for frame in frames.values())
    assert (frames["grey"][:, :, 0] == frames["grey"][:, :, 2]).all()
    assert set(np.unique(frames["saturated"])) == set(np.unique(frames["checker"])) == {0, 255}
    assert (frames["black"].max(), frames["white"].min()) == (0, 255)
    assert (frames["checker"][0, :4, 0] == [0, 255, 0, 255]).all()


def test_they_are_the_same_each_time_and_go_through_the_contract() -> None:
    before = {name: frame.copy() for name, frame in edges.frames().items()}
    edges.frames.cache_clear()
    assert all(np.array_equal(before[name], frame) for name, frame in edges.frames().items())
    made = edges.images(ImageSpec(20, 30))
    assert {tensor.shape for tensor in made.inputs} == {(1, 20, 30, 3)}
    assert len(made.frames) == len(made.inputs) == len(before)


def test_a_reader_that_ignores_the_orientation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edges, "read_image", lambda path: np.rot90(read_image(path)))
    edges.frames.cache_clear()
    with pytest.raises(ParityError, match="EXIF orientation is 6 is not turned clockwise"):
        edges.frames()
    edges.frames.cache_clear()
