"""A real bundle of a model that can be computed by hand, and clips of known colours."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.bundle import Bundle, Golden, Manifest, read, seal
from edgekit.device.image import prepare
from edgekit.spec import ImageSpec, TensorSpec

LABELS = ("red", "green", "blue")
IMAGE = ImageSpec(8, 12, crop_fraction=1.0)


def _mean_colour(path: Path, height: int, width: int) -> None:
    """Write a network whose logits are the mean of each colour channel over 16."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "sixteen"], ["logits"]),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("sixteen", TensorProto.FLOAT, [1], [16.0]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean_colour",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, height, width, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        constants,
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(path))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, manifest: Manifest) -> Bundle:
    """An ONNX bundle that answers the colour that is strongest; input 12 x 8 pixels."""
    folder = tmp_path_factory.mktemp("bundle") / "colours"
    (folder / "golden").mkdir(parents=True)
    _mean_colour(folder / "model.onnx", IMAGE.height, IMAGE.width)
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    frame = np.random.default_rng(0).integers(0, 256, (31, 47, 3), np.uint8)
    cv2.imwrite(str(folder / "golden" / "0.png"), frame)  # frame is BGR
    tensor = np.zeros((1, IMAGE.height, IMAGE.width, 3), np.uint8)
    prepare(frame, "BGR", IMAGE, tensor[0])
    np.save(folder / "golden" / "0_input.npy", tensor)
    np.save(folder / "golden" / "0_output.npy", tensor.mean((1, 2), np.float32) / 16)
    stated = replace(
        manifest,
        image=IMAGE,
        inputs=(TensorSpec("image", (1, 8, 12, 3), "uint8"),),
        outputs=(TensorSpec("logits", (1, 3), "float32"),),
        golden=(Golden("golden/0.png", "golden/0_input.npy", "golden/0_output.npy"),),
    )
    seal(folder, stated)
    return read(folder)


@pytest.fixture
def photo(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a PNG, 40 x 30, of one of the colours under a name."""

    def write(name: str, colour: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((30, 40, 3), 20, np.uint8)
        pixels[..., 2 - LABELS.index(colour)] = 220  # OpenCV writes BGR
        assert cv2.imwrite(str(path), pixels)
        return path

    return write


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of MP4 at 10 frames a second, 64 x 48: red, green, blue, a second each."""
    import av

    path = tmp_path_factory.mktemp("clip") / "colours.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 10)
        for number in range(30):
            pixels = np.full((48, 64, 3), 20, np.uint8)
            pixels[..., number // 10] = 220
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    """Every loop ends its capture thread."""
    import threading

    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "capture"] == []
