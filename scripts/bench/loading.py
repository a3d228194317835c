"""How fast training images are made, beside torch's own loader, and whether training waits.

    python -m scripts.bench.loading DATA [--seconds 2]
    python -m scripts.bench.loading DATA --resize     how far a whole view is from the contract

DATA has `images/` with Tiny-ImageNet-50, CIFAR and `fullsize/`, a folder of photographs. Both sides
do the same to an image (a random crop, a resize, a mirror image, contrast and brightness) with the
same OpenCV; torch's `DataLoader` has as many worker processes as ours has threads, and the
webdataset package reads the shards. They take turns: a busy machine is busy for both.
"""

import argparse
import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import webdataset
from torch.utils.data import DataLoader, Dataset

from edgekit.device.image import decode_image, list_images, prepare
from edgekit.learn.data.ahead import threads_here
from edgekit.learn.data.augment import render
from edgekit.learn.data.batch import Batches
from edgekit.learn.data.deal import Deal
from edgekit.learn.data.resident import Resident
from edgekit.learn.data.shards import Sharded
from edgekit.learn.data.source import Images, read
from edgekit.learn.data.streamed import Streamed
from edgekit.learn.recipe.data import Augment, DataSpec
from edgekit.plugins import architecture
from edgekit.spec import ImageSpec
from scripts.bench._common import heading

BATCH = 128
HOW = Augment(contrast=0.2, brightness=0.1)
KERNELS: tuple[Literal["area", "bilinear"], ...] = ("area", "bilinear")
COPIES = 20
"""Of each photograph: 2,000 in all."""


@dataclass(frozen=True)
class Case:
    """A data set, and the side of the square images that are made of it."""

    name: str
    images: Images
    side: int
    theirs: Callable[[int], Iterable[torch.Tensor]]
    """torch's loader with so many workers: batches of pixels."""


def view(pixels: np.ndarray, side: int) -> np.ndarray:
    """One random view, as `Augment` has it, by numpy's own random numbers."""
    height, width = pixels.shape[:2]
    area = np.random.uniform(HOW.min_area, 1) * height * width
    ratio = np.exp(np.random.uniform(-1, 1) * np.log(HOW.max_ratio))
    w = min(max(round(np.sqrt(area * ratio)), 1), width)
    h = min(max(round(np.sqrt(area / ratio)), 1), height)
    left, top = np.random.randint(width - w + 1), np.random.randint(height - h + 1)
    kernel = cv2.INTER_AREA if side < min(w, h) else cv2.INTER_CUBIC
    crop = pixels[top : top + h, left : left + w]
    scaled = cv2.resize(crop, (side, side), interpolation=kernel)
    gain = 1 + np.random.uniform(-1, 1) * HOW.contrast
    shift = np.random.uniform(-1, 1) * HOW.brightness * 255 + 127.5 * (1 - gain)
    scaled = cv2.addWeighted(scaled, gain, scaled, 0, shift)
    return np.ascontiguousarray(scaled[:, ::-1]) if np.random.random() < HOW.mirror else scaled


class Plain(Dataset[tuple[torch.Tensor, int]]):
    """As a tutorial has it: one image at a time."""

    def __init__(self, images: Images, side: int) -> None:
        """Keep them."""
        self._images, self._side = images, side

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = view(self._images.pixels[index], self._side)
        return torch.from_numpy(pixels), int(self._images.targets[index])


def plain(images: Images, side: int) -> Callable[[int], Iterable[torch.Tensor]]:
    """Torch's loader over images that can be asked for by number."""

    def loader(workers: int) -> Iterator[torch.Tensor]:
        loaded = DataLoader(Plain(images, side), BATCH, shuffle=True, num_workers=workers)
        return (pixels for pixels, _ in loaded)

    return loader


class Viewed:
    """What the webdataset package maps over samples; a class, so that it can be pickled."""

    def __init__(self, side: int) -> None:
        """Keep the side."""
        self._side = side

    def __call__(self, sample: dict[str, bytes]) -> tuple[torch.Tensor, int]:
        pixels = decode_image(sample["jpg"], str(sample["__key__"]))
        return torch.from_numpy(view(pixels, self._side)), int(sample["cls"])


def streamed(folder: Path, side: int) -> Callable[[int], Iterable[torch.Tensor]]:
    """The webdataset package's pipeline over the shards, in torch's loader."""

    def loader(workers: int) -> Iterator[torch.Tensor]:
        urls = sorted(map(str, folder.glob("train-*.tar")))
        data = webdataset.WebDataset(urls, shardshuffle=len(urls), empty_check=False)
        samples = data.shuffle(1000).map(Viewed(side))
        loaded = DataLoader(samples, BATCH, num_workers=min(workers, len(urls)))
        return (pixels for pixels, _ in loaded)

    return loader


def photographs(source: Path, folder: Path) -> None:
    """Lay out the photographs as class folders, and as shards; many times the same ones."""
    paths = list_images(source)
    encoded = [path.read_bytes() for path in paths]
    for split, copies in (("train", COPIES), ("val", 1)):
        for shard in range(min(copies, 4)):
            name = folder / "shards" / f"{split}-{shard:06}.tar"
            name.parent.mkdir(parents=True, exist_ok=True)
            with webdataset.TarWriter(str(name)) as writer:
                for copy in range(shard, copies, 4):
                    for number, content in enumerate(encoded):
                        key = f"{copy:03}-{number:03}"
                        writer.write({"__key__": key, "jpg": content, "cls": number % 2})
                        place = folder / "folder" / split / "ab"[number % 2]
                        place.mkdir(parents=True, exist_ok=True)
                        (place / f"{key}.jpg").write_bytes(content)


def cases(data: Path, work: Path) -> Iterator[Case]:
    """The data sets, one after the other: each lies in memory."""
    photographs(data / "images" / "fullsize", work)
    for name, spec, side in (
        ("Tiny-ImageNet-50, 64 px, in memory", DataSpec(data / "images/tiny_imagenet_50.zip"), 64),
        (
            "CIFAR, 32 px, in memory",
            DataSpec(data / "images/cifar10_jpeg.zip.xz", validation="test"),
            32,
        ),
        ("photographs, files -> 224 px", DataSpec(work / "folder", memory=0.0), 224),
    ):
        began = time.perf_counter()
        found = read(spec, ())
        count = len(found.train) + len(found.validation)
        print(f"- {name}: {count} images read in {time.perf_counter() - began:.1f} s")
        yield Case(name, found.train, side, plain(found.train, side))
    began = time.perf_counter()
    images = read(DataSpec(work / "shards"), ()).train
    print(f"- the shards: indexed in {time.perf_counter() - began:.1f} s")
    yield Case("photographs, shards -> 224 px", images, 224, streamed(work / "shards", 224))


def ours(case: Case, threads: int) -> Batches:
    """Our loader with that many threads."""
    deal = Deal(HOW, BATCH, 1)
    if isinstance(case.images.pixels, Sharded):
        return Streamed(case.images, case.images.pixels, deal, threads)
    return Resident(case.images, deal, threads)


def endless(batches: Batches, side: int) -> Iterator[torch.Tensor]:
    """Epoch after epoch."""
    for epoch in itertools.count():
        for batch in batches.epoch(epoch, (side, side)):
            yield batch.pixels


def rate(batches: Iterator[torch.Tensor], seconds: float) -> float:
    """Images a second, once the first batch is there."""
    next(batches)
    began, count = time.perf_counter(), 0
    for pixels in batches:
        count += len(pixels)
        if time.perf_counter() - began > seconds:
            break
    return count / (time.perf_counter() - began)


def again(case: Case, workers: int) -> Iterator[torch.Tensor]:
    """Torch's loader, epoch after epoch."""
    while True:
        yield from case.theirs(workers)


def waiting(case: Case, threads: int, seconds: float) -> tuple[float, float]:
    """Train a small network: images a second, and the share of the time it waits for a batch."""
    torch.manual_seed(0)
    module = architecture("mobilenet_v2")(num_classes=50, width_mult=0.1)
    optimiser = torch.optim.SGD(module.parameters(), 0.01)
    batches = endless(ours(case, threads), case.side)
    targets = torch.zeros(BATCH, dtype=torch.int64)
    next(batches)
    waited, count, began = 0.0, 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        asked = time.perf_counter()
        pixels = next(batches)
        waited += time.perf_counter() - asked
        loss = F.cross_entropy(module(pixels.permute(0, 3, 1, 2).float() / 255), targets)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        count += len(pixels)
    spent = time.perf_counter() - began
    return count / spent, waited / spent


def resizing(data: Path) -> None:
    """Print how far training's resize is from the contract's: mean, in levels of 255."""
    tiny = read(DataSpec(data / "images/tiny_imagenet_50.zip", limit=50), ()).validation.pixels
    whole = [tiny[i] for i in range(0, len(tiny), 8)]
    large = [decode_image(p.read_bytes(), str(p)) for p in list_images(data / "images/fullsize")]
    print("| | contract | training | difference |\n|---|---|---|---|")
    for name, images, side in (
        ("64 -> 48", whole, 48),
        ("44 -> 64", [image[:44, :44] for image in whole], 64),
        ("photograph -> 224", large, 224),
        ("photograph -> 96", large, 96),
    ):
        for contract, training in itertools.product(KERNELS, KERNELS):
            spec = ImageSpec(side, side, "stretch", crop_fraction=1.0, interpolation=contract)
            how = Augment(min_area=1.0, mirror=0.0, resize=training)
            wanted = np.empty((len(images), side, side, 3), np.uint8)
            for image, out in zip(images, wanted, strict=True):
                prepare(image, "RGB", spec, out)
            every = np.arange(len(images))
            views = render(images, every, every, (side, side), how, 1)
            far = np.abs(views.astype(int) - wanted).mean()
            print(f"| {name} | {contract} | {training} | {far:.2f} |")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0, help="a measurement; default 2")
    parser.add_argument("--resize", action="store_true", help="compare kernels; time nothing")
    arguments = parser.parse_args()
    if arguments.resize:
        return resizing(arguments.data)
    threads = threads_here()
    counts = sorted({1, threads, 2 * threads})
    print(
        heading(
            f"torch {torch.__version__}, OpenCV {cv2.__version__}, {threads} threads by default"
        )
    )
    print("\nReading:\n")
    rows, first = io.StringIO(), None
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(arguments.data, Path(folder)):
            first = first or case
            found = {
                count: (
                    rate(endless(ours(case, count), case.side), arguments.seconds),
                    rate(again(case, count), arguments.seconds),
                )
                for count in counts
            }
            for count, (mine, theirs) in found.items():
                times = f"{mine / theirs:.2f}x"
                rows.write(f"| {case.name} | {count} | {mine:,.0f} | {theirs:,.0f} | {times} |\n")
    print("\n| data | threads, workers | ours, images/s | DataLoader, images/s | |")
    print("|---|---|---|---|---|")
    print(rows.getvalue())
    assert first is not None
    step, share = waiting(replace(first, side=32), threads, 4 * arguments.seconds)
    return print(
        f"Training MobileNetV2 0.1 on Tiny-ImageNet-50 at 32 px: {step:,.0f} images/s, "
        f"{share:.2%} of the time waiting for a batch"
    )


if __name__ == "__main__":
    main()
