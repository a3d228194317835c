"""Parity and top-1 of every architecture, backend and precision, as a table for the README.

    python scripts/bench/accuracy.py DATA [-o build/bench]

DATA holds `weights/`, `images/imagenet_val` with `labels.txt`, and `images/fullsize` to calibrate
on. Bundles are built by `edgekit build` and stay in the output folder; `--keep` measures those that
are there instead of building them again. Every model sees the same pixels, prepared by the image
contract. The validation images are easier than ImageNet's full set: compare the rows, and do not
call a figure ImageNet top-1.
"""

import argparse
import datetime
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from edgekit import bundle as bundles
from edgekit import plugins
from edgekit.device.image import prepare, read_image
from edgekit.device.session import open_session
from edgekit.lower.load import load_network
from edgekit.lower.network import CameraInput, Network
from edgekit.spec import ImageSpec, Session, SessionOptions

NETWORKS = {
    "mobilenet_v2": "mobilenet_v2_imagenet.safetensors",
    "squeezenet1_1": "squeezenet1_1_imagenet.safetensors",
}
BUILDS = (
    *(("raspberry-pi", precision) for precision in ("fp32", "fp16", "int8")),  # LiteRT
    *(("linux", precision) for precision in ("fp32", "fp16", "int8")),  # ONNX
    ("jetson", "int8"),  # ONNX with symmetric activations, on the CPU
)
PEER = "weights/peers/tf2_mobilenet_v2_1.0_224_ptq.tflite"


def build(data: Path, folder: Path, model: str, target: str, precision: str) -> None:
    """Build one bundle in `folder`; what is there is replaced."""
    command = [sys.executable, "-m", "edgekit.cli.main", "build", model]
    command += ["--weights", str(data / "weights" / NETWORKS[model])]
    command += ["--target", target, "--precision", precision]
    command += ["--calibration", str(data / "images" / "fullsize")]
    command += ["--labels", str(data / "images" / "imagenet_labels.txt"), "-o", str(folder)]
    command += ["--force"]
    print(f"building {folder.name}", file=sys.stderr)
    if subprocess.run(command, check=False, stdout=sys.stderr).returncode:
        raise SystemExit(f"error: {folder.name} was not built, as said above")


def labelled(data: Path) -> list[tuple[Path, int]]:
    """The validation images with their class index."""
    folder = data / "images" / "imagenet_val"
    pairs = (line.split() for line in (folder / "labels.txt").read_text().splitlines())
    return [(folder / name, int(label)) for name, label in pairs]


def inputs(images: list[tuple[Path, int]], spec: ImageSpec) -> Iterator[np.ndarray]:
    """Each image as the image contract makes it: (1, h, w, 3) uint8 RGB, reused for the next."""
    out = np.empty((1, spec.height, spec.width, 3), np.uint8)
    for path, _ in images:
        prepare(read_image(path), "RGB", spec, out[0])
        yield out


def answers(
    images: list[tuple[Path, int]], spec: ImageSpec, run: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The most probable class of each image: (N,) int64."""
    return np.array([int(run(pixels).argmax()) for pixels in inputs(images, spec)])


def by_session(session: Session) -> Callable[[np.ndarray], np.ndarray]:
    """Run a session on one prepared image; its only output."""
    name = session.inputs[0].name

    def run(pixels: np.ndarray) -> np.ndarray:
        def fill(memory: Mapping[str, np.ndarray]) -> None:
            memory[name][...] = pixels

        return next(iter(session.run(fill).values()))

    return run


def by_torch(network: Network) -> Callable[[np.ndarray], np.ndarray]:
    """Run the eager network on one prepared image."""
    module = CameraInput(network.module, network.image).eval()

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = module(torch.from_numpy(pixels)).numpy()
        return logits

    return run


def parity_rows(folder: Path) -> list[str]:
    """One row a hop of the gate, as the manifest states it."""
    return [
        f"| {folder.name} | {hop.name} | {hop.max_abs_error:.2g} | {hop.snr_db:.1f} "
        f"| {hop.top1_agreement * 100:.1f} % | {hop.images} |"
        for hop in bundles.read(folder).manifest.parity
    ]


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--keep", action="store_true", help="do not build again what is there")
    given = parser.parse_args()
    images = labelled(given.data)
    truth = np.array([label for _, label in images])
    parity, accuracy = [], []

    def row(name: str, found: np.ndarray, eager: np.ndarray) -> str:
        same = (found == eager).mean() * 100
        return f"| {name} | {(found == truth).mean() * 100:.2f} % | {same:.1f} % |"

    for model, weights in NETWORKS.items():
        network = load_network(model, str(given.data / "weights" / weights))
        eager = answers(images, network.image, by_torch(network))
        accuracy.append(row(f"{model}, eager fp32", eager, eager))
        for target, precision in BUILDS:
            folder = given.out / f"{model}-{target}-{precision}"
            if not (given.keep and folder.is_dir()):
                build(given.data, folder, model, target, precision)
            parity += parity_rows(folder)
            opened = bundles.read(folder)
            with closing(open_session(opened)) as session:
                found = answers(images, opened.manifest.image, by_session(session))
            accuracy.append(row(folder.name, found, eager))
            print(accuracy[-1], file=sys.stderr)
        if model == "mobilenet_v2":
            with closing(
                plugins.loader("litert")(given.data / PEER, SessionOptions(threads=1))
            ) as session:
                found = answers(images, network.image, by_session(session))
            # TensorFlow's classes may have a background class in front.
            found -= session.outputs[0].shape[-1] - network.classes
            accuracy.append(row(Path(PEER).name, found, eager))
    print(f"{datetime.date.today()}, {len(images)} labelled images\n")
    print("| bundle | hop | max error | SNR dB | same top-1 | images |\n|---|---|---|---|---|---|")
    print("\n".join(parity))
    print("\n| model | top-1 | same answer as eager |\n|---|---|---|")
    print("\n".join(accuracy))


if __name__ == "__main__":
    main()
