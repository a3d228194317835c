"""Parity, top-1 and equal integers of published weights, on every runtime in every precision.

    python scripts/bench/accuracy.py DATA [-o build/accuracy] [--network N ...] [--backend B ...]

DATA holds `weights/`, `images/imagenet_val` with `labels.txt`, and `images/fullsize` to calibrate
on. Each network is prepared once a precision and lowered by every backend, each hop behind the
gate, as `edgekit build` does it; the model files stay in the output folder. Every runtime sees the
same pixels, made by the image contract, and of int8 the logits are compared, pair by pair. Writes
`docs/accuracy.md`. The validation images are easier than ImageNet's full set: compare the rows, and
do not call a figure ImageNet top-1.
"""

import argparse
import datetime
import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edgekit import plugins
from edgekit.device.image import prepare as prepare_pixels
from edgekit.device.image import read_image
from edgekit.device.measure.compare import grid
from edgekit.device.measure.interval import wilson
from edgekit.errors import EdgekitError
from edgekit.lower import calibrate, export
from edgekit.lower.gate import parity
from edgekit.lower.load import load_network
from edgekit.lower.network import Network, folded
from edgekit.lower.plan import Request, make_plan
from edgekit.lower.prepare import Prepared, prepare
from edgekit.lower.prove import lower
from edgekit.spec import ImageSpec, Precision, Session, SessionOptions

NETWORKS = {
    "mobilenet_v2": "mobilenet_v2_imagenet.safetensors",
    "squeezenet1_1": "squeezenet1_1_imagenet.safetensors",
}
TARGETS = {
    "litert": "raspberry-pi",
    "onnx": "linux",
    "openvino": "linux",
    "executorch": "android",
    "coreml": "ios",
}
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
PEER = "weights/peers/tf2_mobilenet_v2_1.0_224_ptq.tflite"


@dataclass(frozen=True, slots=True)
class Row:
    """One program on one runtime, or in torch."""

    network: str
    name: str
    """`litert int8`."""
    snr_db: float | None
    """Of the hop to the runtime."""
    logits: np.ndarray
    """(images, classes)."""
    refused: str = ""


def labelled(data: Path) -> list[tuple[Path, int]]:
    """The validation images with their class index."""
    folder = data / "images" / "imagenet_val"
    pairs = (line.split() for line in (folder / "labels.txt").read_text().splitlines())
    return [(folder / name, int(label)) for name, label in pairs]


def inputs(images: Sequence[tuple[Path, int]], spec: ImageSpec) -> Iterator[np.ndarray]:
    """Each image as the image contract makes it: (1, h, w, 3) uint8 RGB, reused for the next."""
    out = np.empty((1, spec.height, spec.width, 3), np.uint8)
    for path, _ in images:
        prepare_pixels(read_image(path), "RGB", spec, out[0])
        yield out


def by_session(session: Session, images: Sequence[tuple[Path, int]], spec: ImageSpec) -> np.ndarray:
    """Logits (images, classes)."""
    return np.concatenate([parity.run_session(session, [x]) for x in inputs(images, spec)])


def by_torch(
    module: torch.nn.Module, images: Sequence[tuple[Path, int]], spec: ImageSpec
) -> np.ndarray:
    """Logits (images, classes)."""
    return np.concatenate([parity.run_module(module, [x]) for x in inputs(images, spec)])


def lowered(
    prepared: Prepared, backend: str, target: str, images: Sequence[tuple[Path, int]], out: Path
) -> Row:
    """Lower a program behind the gate, and ask it of all images."""
    spec = prepared.spec
    name = f"{target if target == 'jetson' else backend} {spec.precision}"
    plan = make_plan(Request(target, backend=backend, precision=spec.precision))
    folder = out / spec.name / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{spec.name}: {name}", file=sys.stderr, flush=True)
    try:
        proof = lower(prepared, plan, folder, lambda line: None)
        with closing(plan.load(proof.artifact.model, plan.session)) as session:
            logits = by_session(session, images, spec.image)
            return Row(spec.name, name, proof.hops[-1].snr_db, logits)
    except EdgekitError as error:
        return Row(spec.name, name, None, np.empty((0, spec.classes)), str(error))


def measure(
    network: Network, data: Path, images: Sequence[tuple[Path, int]], backends: Sequence[str],
    out: Path,
) -> Iterator[Row]:  # fmt: skip
    """Eager first, then each precision: in torch where it is int8, then every runtime."""
    seen = calibrate.from_folder(data / "images" / "fullsize", network.image)
    eager = export.with_camera_input(folded(network))
    yield Row(network.name, "eager fp32", None, by_torch(eager, images, network.image))
    for precision in PRECISIONS:
        plan = make_plan(Request("raspberry-pi", precision=precision))
        prepared = prepare(plan, network, seen, lambda line: None)
        if precision == "int8":
            module = prepared.program.module(check_guards=False)
            hop, logits = prepared.gate.hops[-1], by_torch(module, images, network.image)
            yield Row(network.name, "torch int8", hop.snr_db, logits)
        for backend in backends:
            yield lowered(prepared, backend, TARGETS[backend], images, out)
    if "onnx" in backends:
        prepared = prepare(
            make_plan(Request("jetson", precision="int8")), network, seen, lambda line: None
        )
        yield lowered(prepared, "onnx", "jetson", images, out)


def accuracy_rows(rows: Sequence[Row], truth: np.ndarray) -> Iterator[str]:
    """A line each; the first row is what the others are compared with."""
    eager = rows[0].logits.argmax(1)
    for row in rows:
        if row.refused:
            yield f"| {row.network} | {row.name} | refused: {row.refused} | | | |"
            continue
        answers = row.logits.argmax(1)
        right = answers == truth
        low, high = wilson(float(right.mean()), len(right))
        db = row.snr_db
        snr = "" if db is None else "equal" if db >= 200 else f"{db:.0f} dB"
        yield (
            f"| {row.network} | {row.name} | {snr} | {right.mean():.2%} | "
            f"{low:.1%} to {high:.1%} | {(answers == eager).mean():.1%} |"
        )


def pair_rows(rows: Sequence[Row]) -> Iterator[str]:
    """Each two runtimes of the affine int8 program: equal logits, largest difference, top-1."""
    int8 = [r for r in rows if r.name.endswith("int8") and "jetson" not in r.name and len(r.logits)]
    step = next((s for r in int8 if (s := grid(r.logits))), 1.0)
    for one, two in itertools.combinations(int8, 2):
        apart = np.abs(one.logits - two.logits) / step
        same = one.logits.argmax(1) == two.logits.argmax(1)
        yield (
            f"| {one.network} | {one.name.split()[0]}, {two.name.split()[0]} | "
            f"{(apart < 0.5).mean():.4%} | {apart.max():.0f} | {same.mean():.2%} |"
        )


def peer_row(data: Path, images: Sequence[tuple[Path, int]], truth: np.ndarray) -> str:
    """Google's own int8 MobileNetV2, on the same pixels."""
    with closing(plugins.loader("litert")(data / PEER, SessionOptions(threads=1))) as session:
        height, width = session.inputs[0].shape[1:3]
        answers = by_session(session, images, ImageSpec(height, width)).argmax(1)
    answers -= session.outputs[0].shape[-1] - 1000  # TensorFlow's background class
    right = answers == truth
    low, high = wilson(float(right.mean()), len(right))
    name = Path(PEER).name
    return f"| mobilenet_v2 | {name} (peer) | | {right.mean():.2%} | {low:.1%} to {high:.1%} | |"


def page(accuracy: Sequence[str], pairs: Sequence[str], count: int) -> str:
    """Markdown."""
    return "\n".join(
        [
            PAGE.format(date=datetime.date.today(), count=count),
            "| network | program | hop to it | top-1 | 95 % interval | same answer as eager |",
            "|---|---|--:|--:|---|--:|",
            *accuracy,
            PAIRS.format(count=count),
            "| network | runtimes | equal logits | most steps apart | same top-1 |",
            "|---|---|--:|--:|--:|",
            *pairs,
            "",
        ]
    )


PAGE = """# Accuracy on every runtime

Written by `scripts/bench/accuracy.py` on {date}: {count} labelled images of ImageNet's validation
set, which are easier than the whole; int8 calibrated on 100 other photographs. "hop to it" is the
SNR of the parity gate's hop to that runtime ("equal": no bit differs); of `torch int8`, of the hop
from float to int8.
"""
PAIRS = """
## The same integers

One int8 program, lowered by every backend; its logits on the {count} images, pair by pair. Core ML
is executed by edgekit's interpreter of its program; `torch` is the program itself.
"""


def main() -> None:
    """Lower, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/accuracy"))
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--backend", choices=TARGETS, action="append")
    parser.add_argument("--page", type=Path, default=Path("docs/accuracy.md"))
    given = parser.parse_args()
    images = labelled(given.data)
    truth = np.array([label for _, label in images])
    accuracy: list[str] = []
    pairs: list[str] = []
    for name in given.network or NETWORKS:
        network = load_network(name, str(given.data / "weights" / NETWORKS[name]))
        backends = given.backend or list(TARGETS)
        rows = list(measure(network, given.data, images, backends, given.out))
        accuracy += accuracy_rows(rows, truth)
        pairs += pair_rows(rows)
    if not given.network or "mobilenet_v2" in given.network:
        accuracy.append(peer_row(given.data, images, truth))
    given.page.write_text(page(accuracy, pairs, len(images)), encoding="utf-8")


if __name__ == "__main__":
    main()
