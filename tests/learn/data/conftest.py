"""Images to write in several layouts."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import webdataset

from tests.learn.conftest import picture

Made = dict[str, bytes]
"""Names, and encoded images."""


@pytest.fixture(scope="session")
def made() -> Made:
    """`train/` with 10 and `val/` with 4 images, 24 x 24, of each of the classes a, b, c."""
    return {
        f"{split}/{folder}/{i}.png": cv2.imencode(".png", picture(folder, i + first)[:, :, ::-1])[
            1
        ].tobytes()
        for split, count, first in (("train", 10, 0), ("val", 4, 100))
        for folder in "abc"
        for i in range(count)
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Made], Path]:
    """Writes files into a folder."""

    def write(files: Made) -> Path:
        for name, content in files.items():
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / "data"

    return write


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Indices of shards are kept here."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "edgekit" / "shards"


def numbered(count: int, side: int = 8, first: int = 0) -> Iterator[dict[str, object]]:
    """Samples for webdataset's writer: sample i's pixels are i, its class is i mod 3."""
    for i in range(first, first + count):
        image = np.full((side, side, 3), i % 256, np.uint8)
        yield {
            "__key__": f"{i:05}",
            "png": cv2.imencode(".png", image)[1].tobytes(),
            "cls": i % 3,
        }


def write_shard(path: Path, samples: Iterator[dict[str, object]]) -> Path:
    """A shard as the webdataset package writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)
    return path


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of 3 training shards with 40, 25 and 35 samples, and one of 9 to measure with."""
    first = 0
    for number, count in enumerate((40, 25, 35)):
        write_shard(tmp_path / f"train-{number:06}.tar", numbered(count, first=first))
        first += count
    write_shard(tmp_path / "val-000000.tar", numbered(9))
    return tmp_path
