r"""The same frames on two processors: what the Pi saw and answered, kept and answered again here.

    scripts/virtual_pi BUNDLE --out OUT -- \
        python -m scripts.virtual_pi_parts.frames record BUNDLE v4l2:///dev/video0 OUT/seen
    .venv/bin/python -m scripts.virtual_pi_parts.frames compare BUNDLE OUT/seen

`record` runs the camera loop and keeps of each frame the planes as the camera lent them, the
model's input that was prepared from them, and the logits. `compare` prepares and answers the kept
planes on the machine that it runs on, and says how far the two are apart.
"""

import argparse
import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgekit import bundle as bundles
from edgekit.bundle import Bundle
from edgekit.device.copies import Copies
from edgekit.device.image import Preparer
from edgekit.device.loop import Loop
from edgekit.device.picture import Picture
from edgekit.device.session import open_session
from edgekit.device.uri import open_camera
from edgekit.spec import Session


@dataclass(frozen=True, slots=True)
class Compared:
    """How far two machines are apart on the same frames."""

    frames: int
    formats: str
    """Of the frames, as "NV12 640x360"."""
    values: int
    """Of the prepared inputs of all frames."""
    different: int
    """How many of them are not equal."""
    most_lsb: int
    """The largest difference between them."""
    logits: float
    """The largest difference between two logits."""
    best: int
    """Frames whose most probable class is the same."""


def record(bundle: Path, source: str, folder: Path, count: int) -> None:
    """Answer `count` frames of a camera and keep them in `folder`, a file each."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = bundles.read(bundle)
    everything = len(opened.labels)
    with closing(open_session(opened)) as session:
        kept, answered = [], []
        with (
            closing(open_camera(source)) as camera,
            Loop(opened, session, camera, everything, count) as loop,
        ):
            for result in loop:
                kept.append(_copy(result.frame.picture))
                answered.append({p.index: p.probability for p in result.predictions})
        for number, (picture, probabilities) in enumerate(zip(kept, answered, strict=True)):
            prepared, logits = _answer(opened, session, picture)
            _keep(folder / f"{number:04d}.npz", picture, prepared, logits)
            # The loop prepared it from the camera's own memory: the copy must give the same.
            again = np.exp(logits - logits.max()).reshape(-1).astype(np.float64)
            by_loop = np.array([probabilities[index] for index in range(everything)])
            if not np.allclose(again / again.sum(), by_loop, rtol=0, atol=1e-6):
                raise SystemExit(f"frame {number}: the loop's answer is not that of its frame")
    print(f"kept {len(kept)} frames in {folder}")


def compare(bundle: Path, folder: Path) -> Compared:
    """Answer the kept frames again, here."""
    opened = bundles.read(bundle)
    frames = values = different = best = most_lsb = 0
    logits_apart, formats = 0.0, set()
    with closing(open_session(opened)) as session:
        for picture, prepared, logits in _kept(folder):
            ours, our_logits = _answer(opened, session, picture)
            apart = np.abs(ours.astype(np.int64) - prepared.astype(np.int64))
            frames += 1
            values += apart.size
            different += int(np.count_nonzero(apart))
            most_lsb = max(most_lsb, int(apart.max()))
            logits_apart = max(logits_apart, float(np.abs(our_logits - logits).max()))
            best += int(our_logits.argmax() == logits.argmax())
            formats.add(f"{picture.format} {picture.width}x{picture.height}")
    named = ", ".join(sorted(formats))
    return Compared(frames, named, values, different, most_lsb, logits_apart, best)


def _answer(bundle: Bundle, session: Session, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
    """The prepared input (height, width, 3) uint8 and the logits (1, classes) float32."""
    prepare, name = Preparer(bundle.manifest.image, Copies()), session.inputs[0].name
    prepared = np.empty(0, np.uint8)

    def fill(inputs: Mapping[str, np.ndarray]) -> None:
        nonlocal prepared
        prepare(picture, inputs[name][0])
        prepared = inputs[name][0].copy()  # the session's own memory

    logits = session.run(fill)[session.outputs[0].name]
    return prepared, logits.astype(np.float32)


def _copy(picture: Picture) -> Picture:
    """A picture of its own: the frame's memory is lent, and is kept beyond the loop here."""
    planes = tuple(plane.copy() for plane in picture.planes)
    return Picture(
        picture.format,
        picture.width,
        picture.height,
        planes,
        picture.matrix,
        picture.full_range,
        picture.turns,
    )


def _keep(path: Path, picture: Picture, prepared: np.ndarray, logits: np.ndarray) -> None:
    about = asdict(picture) | {"planes": len(picture.planes)}
    arrays = {f"plane{number}": plane for number, plane in enumerate(picture.planes)}
    arrays |= {"about": np.array(json.dumps(about)), "prepared": prepared, "logits": logits}
    np.savez(path, allow_pickle=False, **arrays)


def _kept(folder: Path) -> Iterator[tuple[Picture, np.ndarray, np.ndarray]]:
    for number in itertools.count():
        path = folder / f"{number:04d}.npz"
        if not path.exists():
            return
        with np.load(path) as kept:
            about = json.loads(str(kept["about"]))
            about["planes"] = tuple(kept[f"plane{plane}"] for plane in range(about["planes"]))
            yield Picture(**about), kept["prepared"], kept["logits"]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record")
    recording.add_argument("bundle", type=Path)
    recording.add_argument("source")
    recording.add_argument("folder", type=Path)
    recording.add_argument("--frames", type=int, default=10)
    comparing = verbs.add_parser("compare")
    comparing.add_argument("bundle", type=Path)
    comparing.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.verb == "record":
        record(options.bundle, options.source, options.folder, options.frames)
    else:
        print(json.dumps(asdict(compare(options.bundle, options.folder))))


if __name__ == "__main__":
    main()
