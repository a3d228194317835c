"""The last hop: the bundle as a device reads it, from camera pixels to a named answer."""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from edgekit import bundle
from edgekit.device.golden import run_image
from edgekit.device.session import open_session
from edgekit.errors import ParityError
from edgekit.lower.calibrate import to_input
from edgekit.lower.gate import parity, reference
from edgekit.lower.network import Network
from edgekit.manifest import Hop
from edgekit.spec import ImageSpec, Session

NAME = "lowered -> packaged"
PIXELS = 1.5
"""Of 255, by which a prepared pixel may differ from the contract in float64: measured 0.8, of which
0.5 is the rounding to whole numbers and the rest OpenCV's weights of 11 bits."""


def answers(session: Session, frames: Sequence[np.ndarray], image: ImageSpec) -> np.ndarray:
    """Logits (N, classes) for camera frames (H, W, 3) uint8 RGB through an image contract."""
    name = session.outputs[0].name
    return np.concatenate([run_image(session, frame, image)[name] for frame in frames])


def packaged(
    folder: Path,
    network: Network,
    frames: Sequence[np.ndarray],
    edges: Mapping[str, np.ndarray],
    expected: np.ndarray,
) -> Hop:
    """Hold the sealed bundle to the network: contract, pixels, labels, and the lowered logits.

    Args:
        folder: the bundle, sealed.
        network: as it was loaded.
        frames: (H, W, 3) uint8 RGB each.
        edges: generated frames, the same, by what they are.
        expected: (N, classes), what the lowered model gives for `frames` and then `edges` by the
            network's own contract.

    Raises:
        ParityError: says what the bundle has and what it would have to be.
    """
    made = bundle.read(folder)
    _check_contract(made.manifest.image, network.image)
    every = {f"frame {n}": frame for n, frame in enumerate(frames)} | dict(edges)
    for name, frame in every.items():
        _check_pixels(name, frame, made.manifest.image, network.image)
    _check_labels(made.labels, network.labels)
    with closing(open_session(made)) as session:
        found = answers(session, [*every.values()], made.manifest.image)
    inputs = [to_input(frame, network.image) for frame in every.values()]
    probe = parity.Probe(
        inputs[: len(frames)], dict(zip(edges, inputs[len(frames) :], strict=True))
    )
    return parity.hold(NAME, probe, expected, found, parity.EXACT, parity.EXACT, lambda _inputs: ())


def _check_contract(found: ImageSpec, wanted: ImageSpec) -> None:
    for field in dataclasses.fields(ImageSpec):
        has, needs = getattr(found, field.name), getattr(wanted, field.name)
        if has != needs:
            _refuse(f"the image contract: the manifest's {field.name} is {has}, not {needs}")


def _check_pixels(name: str, frame: np.ndarray, found: ImageSpec, wanted: ImageSpec) -> None:
    """The device's own `prepare`, held to the contract in plain numpy."""
    exact = reference.pixels(frame, wanted)
    apart = np.abs(to_input(frame, found)[0] - exact)
    if float(apart.max()) > PIXELS:
        row, column, channel = np.unravel_index(int(apart.argmax()), apart.shape)
        _refuse(
            f"the image contract: of {name}, {frame.shape[1]}x{frame.shape[0]}, the prepared pixel "
            f"in row {row}, column {column}, channel {channel} is {apart.max():.1f} of 255 from "
            f"what the contract says (at most {PIXELS})"
        )


def _check_labels(found: Sequence[str], wanted: Sequence[str]) -> None:
    for n, (has, needs) in enumerate(zip(found, wanted, strict=True)):
        if has != needs:
            _refuse(f"the labels: class {n} is called '{has}', not '{needs}'")


def _refuse(what: str) -> None:
    raise ParityError(
        f"parity gate: the hop '{NAME}' fails: first diverging layer: {what}; no bundle was written"
    )
