"""What it does to top-1 that planes are resized first and become colour at the model's size.

    python -m scripts.bench.planes_first BUNDLE IMAGES [--labels FILE] [--height 720] [--limit N]

Each image becomes what a camera would give, in BT.601's limited range: NV12, I420, YUYV, and a JPEG
of quality 90 with colour at half the size. Each of those goes to the model two ways: by edgekit's
contract (`Preparer`: resized first; a JPEG decoded at the smallest scale that has the pixels), and
converted first, the whole picture by OpenCV, and then resized by the same contract. What the
format of the camera loses is in both. `--height` enlarges the images until their shorter side is
that long, as a camera of that resolution would see a print of them. Prints markdown: top-1 with its
interval, the share of equal answers, how many images are right in one way only, and how far the
model's input is from that of RGB.
"""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgekit.bundle import Bundle
from edgekit.device.image import Preparer, read_image
from edgekit.device.measure import labelled
from edgekit.device.measure.interval import wilson
from edgekit.device.picture import Picture, PixelFormat, rgb
from edgekit.device.session import open_session
from edgekit.spec import ImageSpec, Session
from scripts.bench._common import heading, read

QUALITY = 90
CAMERA: tuple[PixelFormat, ...] = ("NV12", "I420", "YUYV", "MJPEG")


def as_camera(pixels: np.ndarray, of: PixelFormat) -> Picture:
    """(H, W, 3) RGB, sides even, as a camera of that format gives it; each U, V a mean."""
    height, width = pixels.shape[:2]
    if of == "MJPEG":
        options = [
            cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x221111,
        ]  # fmt: skip
        data = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), options)[1].ravel()
        return Picture("MJPEG", width, height, (data,), full_range=True)
    real = pixels / 255
    luma = real @ [0.299, 0.587, 0.114]
    blue, red = (real[..., 2] - luma) / 1.772, (real[..., 0] - luma) / 1.402
    down = 1 if of == "YUYV" else 2
    y = np.rint(16 + 219 * luma).astype(np.uint8)
    u, v = (
        np.rint(128 + 224 * c.reshape(height // down, down, width // 2, 2).mean((1, 3))).astype(
            np.uint8
        )
        for c in (blue, red)
    )
    if of == "YUYV":
        planes: tuple[np.ndarray, ...] = (np.stack([y[:, ::2], u, y[:, 1::2], v], axis=2),)
    elif of == "NV12":
        planes = (y, np.stack([u, v], axis=2))
    else:
        planes = (y, u, v)
    return Picture(of, width, height, planes)


def converted(picture: Picture) -> np.ndarray:
    """All of it as (H, W, 3) RGB by OpenCV: what comes first in most programs."""
    convert: Any = cv2.cvtColor
    if picture.format == "NV12":
        planes: Any = cv2.cvtColorTwoPlane
        made: np.ndarray = planes(*picture.planes, cv2.COLOR_YUV2RGB_NV12)
    elif picture.format == "I420":
        flat = np.concatenate([plane.ravel() for plane in picture.planes])
        made = convert(flat.reshape(-1, picture.width), cv2.COLOR_YUV2RGB_I420)
    elif picture.format == "YUYV":
        packed = picture.planes[0].reshape(picture.height, picture.width, 2)
        made = convert(packed, cv2.COLOR_YUV2RGB_YUY2)
    else:
        decode: Any = cv2.imdecode
        made = decode(picture.planes[0], cv2.IMREAD_COLOR_RGB)
    return made


def source(path: Path, shorter: int) -> np.ndarray:
    """The image with even sides; enlarged until its shorter side is `shorter`, 0: as it is."""
    pixels = read_image(path)
    scale = shorter / min(pixels.shape[:2])
    if scale > 1:
        size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
    height, width = (side // 2 * 2 for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[:height, :width])


def ways(pixels: np.ndarray, spec: ImageSpec) -> Iterator[tuple[str, Picture]]:
    """Each way's name, and the picture that `Preparer` gets in it."""
    yield "RGB", rgb(pixels)
    for of in CAMERA:
        picture = as_camera(pixels, of)
        yield f"{of}, planes first" if of != "MJPEG" else "MJPEG, decoded small", picture
        yield f"{of}, converted first", rgb(converted(picture))


def answer(session: Session, pixels: np.ndarray) -> int:
    """The class with the largest logit."""
    name = session.inputs[0].name

    def fill(memory: Mapping[str, np.ndarray]) -> None:
        memory[name][0] = pixels

    (logits,) = session.run(fill).values()
    return int(logits.argmax())


def answers(
    bundle: Bundle, paths: tuple[Path, ...], shorter: int
) -> dict[str, tuple[list[int], list[float]]]:
    """Of each way: the class of each image, and how far its input is from RGB's, on average."""
    spec = bundle.manifest.image
    out, first = np.empty((2, spec.height, spec.width, 3), np.uint8)
    found: dict[str, tuple[list[int], list[float]]] = {}
    with closing(open_session(bundle)) as session:
        for path in paths:
            for name, picture in ways(source(path, shorter), spec):
                Preparer(spec)(picture, out)
                if name == "RGB":
                    first[...] = out
                classes, apart = found.setdefault(name, ([], []))
                classes.append(answer(session, out))
                apart.append(float(np.abs(out.astype(np.int16) - first).mean()))
    return found


def rows(
    found: dict[str, tuple[list[int], list[float]]], truth: tuple[int, ...] | None
) -> Iterator[str]:
    """A line of the table for each way."""
    plain = np.array(found["RGB"][0])
    for name, (classes, apart) in found.items():
        given = np.array(classes)
        other = np.array(
            found[f"{name.split(',')[0]}, converted first"][0] if "," in name else plain
        )
        top1 = paired = ""
        if truth is not None:
            right, was = given == truth, other == truth
            low, high = wilson(float(right.mean()), len(right))
            top1 = f"{right.mean():.2%} ({low:.1%} to {high:.1%})"
            paired = f"{(right & ~was).sum()}, {(was & ~right).sum()}"
        ours = "," in name and "converted" not in name
        yield (
            f"| {name} | {top1} | {(given == plain).mean():.1%} | "
            f"{f'{(given == other).mean():.1%} | {paired}' if ours else ' | '} | "
            f"{np.mean(apart):.2f} |"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("images", type=Path, metavar="IMAGES")
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--height", type=int, default=0)
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    bundle = read(given.bundle)
    manifest = bundle.manifest
    labels = given.labels or given.images / "labels.txt"
    labels = labels if labels.is_file() else None
    images = labelled.find(given.images, labels, bundle.labels)
    paths = images.paths[: given.limit]
    truth = None if images.classes is None else images.classes[: given.limit]
    size = f"shorter side {given.height}" if given.height else "as they are"
    print(heading(f"{manifest.name} {manifest.precision}", f"{len(paths)} images, {size}"))
    print(
        "\n| as | top-1 | same as RGB | same as converted first | won, lost against it | "
        "from RGB's input, of 255 |"
    )
    print("|---|---|--:|--:|--:|--:|")
    print("\n".join(rows(answers(bundle, paths, given.height), truth)))


if __name__ == "__main__":
    main()
