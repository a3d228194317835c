"""Shards as the webdataset package writes them: what is in them, and what is wrong with them."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from webdataset.tariterators import (
    group_by_keys,
    tar_file_expander,
)

from edgekit.device.image import decode_image
from edgekit.errors import ImageError, InputError
from edgekit.learn.data import tar
from edgekit.learn.data.shards import Sharded
from edgekit.learn.data.source import read
from edgekit.learn.recipe.data import ClassSpec, DataSpec
from tests.learn.data.conftest import numbered, write_shard

PNG = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
CLASSES = tuple(ClassSpec(name, name) for name in "abc")


def shard(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def test_we_read_what_the_webdataset_package_reads(shards: Path) -> None:
    data = read(DataSpec(shards), ())
    theirs = []
    for path in sorted(shards.glob("train-*.tar")):
        with path.open("rb") as stream:  # its own opener leaves closing to chance
            source = [{"url": str(path), "stream": stream}]
            theirs += list(group_by_keys(tar_file_expander(source)))
    assert len(data.train) == len(theirs) == 100
    for image, target, sample in zip(data.train.pixels, data.train.targets, theirs, strict=True):
        assert target == int(sample["cls"])
        np.testing.assert_array_equal(image, decode_image(sample["png"], "theirs"))


def test_training_images_stay_in_the_shards(shards: Path) -> None:
    data = read(DataSpec(shards, buffer=50), ())
    assert isinstance(data.train.pixels, Sharded)
    assert data.train.pixels.buffer == 50
    assert isinstance(data.validation.pixels, np.ndarray)
    assert [spec.folder for spec in data.classes] == ["0", "1", "2"]
    index = np.array([70, 2, 39, 40, 99])
    for number, encoded in zip(index, data.train.pixels.encoded(index), strict=True):
        assert decode_image(encoded, "")[0, 0, 0] == number


def test_validation_may_be_a_folder_or_a_share(shards: Path) -> None:
    (shards / "val-000000.tar").unlink()
    with pytest.raises(InputError, match=r"validation_share"):
        read(DataSpec(shards), CLASSES)
    for name in "abc":
        (shards / "val" / name).mkdir(parents=True)
        (shards / "val" / name / "0.png").write_bytes(PNG)
    assert len(read(DataSpec(shards), CLASSES).validation) == 3
    held = read(DataSpec(shards, validation_share=0.1), CLASSES)
    assert (len(held.train), len(held.validation)) == (91, 9)
    seen = {int(image[0, 0, 0]) for part in (held.train, held.validation) for image in part.pixels}
    assert seen == set(range(100))


def test_shards_may_lie_in_a_folder_of_the_split(shards: Path) -> None:
    before = read(DataSpec(shards), ()).train
    (shards / "train").mkdir()
    for path in sorted(shards.glob("train-*.tar")):
        path.rename(shards / "train" / path.name.removeprefix("train-"))
    after = read(DataSpec(shards), ()).train
    assert after.fingerprint == before.fingerprint


def test_labels_are_names_or_in_json(tmp_path: Path) -> None:
    files = {
        "x/0.jpg": cv2.imencode(".jpg", np.zeros((4, 4, 3), np.uint8))[1].tobytes(),
        "x/0.cls": b"cat\n",
        "x/0.txt": b"a cat",
        "x/1.png": PNG,
        "x/1.json": json.dumps({"label": "dog", "size": 4}).encode(),
        "x/2.PNG": PNG,
        "x/2.json": json.dumps({"cls": "cat"}).encode(),
    }
    shard(tmp_path / "train-0.tar", files)
    shard(tmp_path / "val-0.tar", files)
    data = read(DataSpec(tmp_path), ())
    assert [spec.folder for spec in data.classes] == ["cat", "dog"]
    assert data.train.targets.tolist() == [0, 1, 0]
    assert data.train.pixels[0].shape == (4, 4, 3)


def test_numbers_are_places_in_the_class_list(shards: Path) -> None:
    assert read(DataSpec(shards), CLASSES).train.targets[:4].tolist() == [0, 1, 2, 0]
    with pytest.raises(InputError, match="the label '2' .* none of the 2 classes"):
        read(DataSpec(shards), CLASSES[:2])
    assert len(read(DataSpec(shards, subset=True), CLASSES[:2]).train) == 67


def test_a_limit_and_a_shard_change_the_fingerprint(shards: Path) -> None:
    whole = read(DataSpec(shards), ()).train
    few = read(DataSpec(shards, limit=6), ()).train
    assert [int(image[0, 0, 0]) for image in few.pixels] == [0, 1, 2, 3, 4, 5]
    (shards / "train-000002.tar").unlink()
    assert (
        len({whole.fingerprint, few.fingerprint, read(DataSpec(shards), ()).train.fingerprint}) == 3
    )


def test_an_index_is_made_once(shards: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(DataSpec(shards), ())
    assert len(list(cache.glob("*.npz"))) == 4
    scanned: list[str] = []
    scan = tar._scan

    def counted(path: Path) -> tar.Index:
        scanned.append(path.name)
        return scan(path)

    monkeypatch.setattr(tar, "_scan", counted)
    assert read(DataSpec(shards), ()).train.fingerprint == before.train.fingerprint
    assert scanned == []
    write_shard(shards / "train-000001.tar", numbered(26, first=40))
    assert len(read(DataSpec(shards), ()).train) == 101
    assert scanned == ["train-000001.tar"]
    for path in cache.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    assert len(read(DataSpec(shards), ()).train) == 101, "damaged ones are made again"
    assert len(scanned) == 5


def test_without_a_place_for_indices_all_works(
    shards: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path_factory.mktemp("none") / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    assert len(read(DataSpec(shards), ()).train) == 100


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"0.png": PNG}, r"sample '0' has no label among its files \(png\); .* \.cls"),
        ({"0.cls": b"1"}, r"sample '0' has 0 images among its files \(cls\)"),
        ({"0.png": PNG, "0.jpg": PNG, "0.cls": b"1"}, "has 2 images"),
        ({"0.png": PNG, "0.cls": b""}, "nothing in its .cls"),
        ({"0.png": PNG, "0.json": b"{}"}, "nothing in its .json under 'label'"),
        ({"0.png": PNG, "0.json": b"{"}, "its .json cannot be read"),
        ({"0.png": PNG, "0.cls": b"1", "1.png": PNG, "1.cls": b"cat"}, "are numbers .* others"),
        ({}, "have no samples"),
    ],
)
def test_samples_that_cannot_be_learned_from(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    shard(tmp_path / "train-000000.tar", files)
    shard(tmp_path / "val-000000.tar", {"0.png": PNG, "0.cls": b"0"})
    with pytest.raises(InputError, match=message):
        read(DataSpec(tmp_path), ())


@pytest.mark.parametrize("kept", [0, 100, 700, 5000, 512 * 60, -1024, -10240])
def test_a_shard_that_is_cut_short(shards: Path, kept: int) -> None:
    path = shards / "train-000001.tar"
    content = path.read_bytes()
    path.write_bytes(content[:kept] if kept >= 0 else content.rstrip(b"\0"))
    with pytest.raises(InputError, match=r"train-000001.tar is damaged.*copy it again"):
        read(DataSpec(shards), ())


def test_a_shard_whose_middle_is_damaged(shards: Path) -> None:
    path = shards / "train-000001.tar"
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        place = archive.getmembers()[9].offset
    content[place : place + 200] = b"\xff" * 200
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"damaged or cut short: at byte {place:,}"):
        read(DataSpec(shards), ())


def test_a_compressed_shard_is_refused(tmp_path: Path) -> None:
    plain = shard(tmp_path / "x.tar", {"0.png": PNG, "0.cls": b"0"})
    (tmp_path / "train-000000.tar.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(InputError, match="is compressed.*unpack it"):
        read(DataSpec(tmp_path), ())
    (tmp_path / "train-000000.tar").write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(InputError, match="must be unpacked with gunzip"):
        read(DataSpec(tmp_path), ())


def test_an_image_that_is_damaged_or_gone_is_named(shards: Path) -> None:
    data = read(DataSpec(shards), ())
    path = shards / "train-000001.tar"
    content = bytearray(path.read_bytes())
    place = content.index(b"\x89PNG")
    content[place : place + 30] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(
        ImageError, match=f"train-000001.tar: the image at byte {place:,} .* decoded"
    ):
        data.train.pixels[40]
    path.write_bytes(content[:2000])
    with pytest.raises(InputError, match="became shorter while it was read"):
        data.train.pixels[64]
    path.unlink()
    with pytest.raises(InputError, match="cannot read the shard .*train-000001.tar: No such file"):
        data.train.pixels[64]
