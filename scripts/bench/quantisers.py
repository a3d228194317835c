"""Our int8 beside other quantisers' of the same float network: accuracy, and speed on one runtime.

    python -m scripts.bench.quantisers DATA [--models build/accuracy] [-o build/bench]

DATA is as for `accuracy.py`, which is run before: MobileNetV2's float and int8 models are taken
from where it left them. ONNX Runtime's `quantize_static` and ai-edge-quantizer's static recipe
quantise our float models, with the defaults that their documentation recommends, on the same
calibration images; Google's published int8 file stands beside them. All see the same pixels, in one
run, and each runtime's models take turns at being timed.
"""

import argparse
import datetime
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from edgekit import plugins
from edgekit.device.image import list_images, prepare, read_image
from edgekit.lower.load import IMAGENET
from edgekit.spec import ImageSpec, Session, SessionOptions
from scripts.bench.accuracy import PEER, by_session, labelled
from scripts.bench.inference import noise, time_runs

ROUNDS, RUNS = 20, 10


def calibration(data: Path, image: ImageSpec) -> Iterator[np.ndarray]:
    """The photographs that our own bundles were calibrated on, (1, h, w, 3) uint8."""
    for path in list_images(data / "images" / "fullsize"):
        out = np.empty((1, image.height, image.width, 3), np.uint8)
        prepare(read_image(path), "RGB", image, out[0])
        yield out


def by_onnxruntime(source: Path, inputs: Iterator[np.ndarray], out: Path) -> Path:
    """`quantize_static`: Q/DQ, uint8 activations, int8 weights per channel, min-max."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, np.ndarray] | None:
            found = next(inputs, None)
            return None if found is None else {"image": found}

    prepared = out / "prepared.onnx"
    quant_pre_process(str(source), str(prepared))
    made = out / "onnxruntime.onnx"
    quantize_static(
        str(prepared),
        str(made),
        Reader(),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return made


def by_ai_edge_quantizer(source: Path, inputs: Iterator[np.ndarray], out: Path) -> Path:
    """Its recipe `static_wi8_ai8`: int8 weights and activations."""
    from ai_edge_quantizer import quantizer, recipe

    maker = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
    samples = [{"image": image} for image in inputs]
    ranges = maker.calibrate({"serving_default": samples})
    made = out / "ai-edge-quantizer.tflite"
    made.write_bytes(bytes(maker.quantize(ranges).quantized_model))
    return made


def rows(
    runtime: str, models: dict[str, Session], images: list[tuple[Path, int]], image: ImageSpec
) -> Iterator[str]:
    """Accuracy and speed of the models of one runtime; the first is ours."""
    truth = np.array([label for _, label in images])
    inputs = {name: noise(session) for name, session in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name, session in models.items():
            times[name] += time_runs(session, inputs[name], RUNS)
    ours = float(np.median(next(iter(times.values()))))
    for name, session in models.items():
        found = by_session(session, images, image).argmax(1)
        found -= session.outputs[0].shape[-1] - 1000  # TensorFlow's background class
        right = (found == truth).mean() * 100
        p50 = float(np.median(times[name]))
        yield f"| {runtime} | {name} | {right:.2f} % | {p50:.2f} | {p50 / ours:.2f} |"
        print(right, name, file=sys.stderr)


def main() -> None:
    """Quantise, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--models", type=Path, default=Path("build/accuracy"))
    parser.add_argument("-o", "--out", type=Path, default=Path("build/bench"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    images = labelled(given.data)
    print(f"{datetime.date.today()}, {len(images)} labelled images, one thread\n")
    print("| runtime | quantised by | top-1 | p50 ms | ratio to ours |\n|---|---|---|---|---|")
    for runtime, suffix, maker in (
        ("litert", "tflite", by_ai_edge_quantizer),
        ("onnx", "onnx", by_onnxruntime),
    ):
        folder = given.models / "mobilenet_v2"
        fp32 = folder / f"{runtime}-fp32" / f"model.{suffix}"
        files = {
            "edgekit": folder / f"{runtime}-int8" / f"model.{suffix}",
            maker.__name__.removeprefix("by_"): maker(
                fp32, calibration(given.data, IMAGENET), given.out
            ),
        }
        if runtime == "litert":
            files["Google, published"] = given.data / PEER
        with ExitStack() as stack:
            load = plugins.loader(runtime)
            models = {
                name: stack.enter_context(closing(load(file, SessionOptions(threads=1))))
                for name, file in files.items()
            }
            for row in rows(runtime, models, images, IMAGENET):
                print(row)


if __name__ == "__main__":
    main()
