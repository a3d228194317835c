import mmap

import numpy as np
import pytest

from edgekit.device.picture import FORMATS, PixelFormat, layout
from edgekit.errors import SpecError


@pytest.mark.parametrize("of", FORMATS)
@pytest.mark.parametrize("size", [(6, 4), (7, 5), (1, 1)])
@pytest.mark.parametrize("padding", [0, 8])
def test_planes_lie_in_the_memory_one_after_the_other(
    of: PixelFormat, size: tuple[int, int], padding: int
) -> None:
    width, height = size
    tight = layout(of, width, height, nbytes=100)
    stride = tight.planes[0][2][0] + padding if of != "MJPEG" else 0
    found = layout(of, width, height, stride, nbytes=100)
    memory = mmap.mmap(-1, found.nbytes)
    picture = found.over(memory, used=50)
    for n, plane in enumerate(picture.planes):
        assert plane.base is not None  # a view
        plane[...] = n + 1
        assert [int(p.flat[0]) for p in picture.planes[: n + 1]] == [*range(1, n + 2)]
    written = np.frombuffer(memory, np.uint8)
    assert np.count_nonzero(written) == sum(plane.size for plane in picture.planes)


def test_nv12_as_a_driver_pads_it() -> None:
    found = layout("NV12", 1280, 720, 1344)
    assert found.planes == ((0, (720, 1280), (1344, 1)), (967680, (360, 640, 2), (1344, 2, 1)))
    assert found.nbytes == 1344 * 1080


def test_a_stride_that_is_too_short() -> None:
    with pytest.raises(SpecError, match="takes 1280 bytes, got a stride of 1000"):
        layout("NV12", 1280, 720, 1000)
    with pytest.raises(SpecError, match="MJPEG needs the most bytes"):
        layout("MJPEG", 1280, 720)
