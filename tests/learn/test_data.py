"""Images of a zip and of a folder are the same; what is missing or broken is named."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.errors import ImageError, InputError
from edgekit.learn.data import Images, read


def test_a_folder_is_read_in_order_of_names(folder: Path, images: Images) -> None:
    found = read(folder, "train", ["a", "b", "c"])
    np.testing.assert_array_equal(found.pixels, images.pixels)
    np.testing.assert_array_equal(found.targets, images.targets)
    assert read(folder, "val", ["a", "b", "c"]).pixels.shape == (12, 16, 16, 3)


def test_a_zip_gives_the_same_as_its_folder(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*.png"), reverse=True):
            file.write(path, path.relative_to(folder))
        file.writestr("train/notes.txt", "not an image")
    found, wanted = (read(source, "train", ["a", "b", "c"]) for source in (archive, folder))
    np.testing.assert_array_equal(found.pixels, wanted.pixels)
    np.testing.assert_array_equal(found.targets, wanted.targets)


def test_only_the_wanted_classes_are_read_in_their_order(folder: Path) -> None:
    found = read(folder, "val", ["c", "a"])
    assert found.targets.tolist() == [1] * 4 + [0] * 4
    assert found.pixels[0, 0, 0].argmax() == 0  # the first folder, a, is red


def test_a_class_without_images_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match="no images under train/d/ .1 of 2 classes are empty"):
        read(folder, "train", ["a", "d"])
    with pytest.raises(InputError, match="no images under test/a/"):
        read(folder, "test", ["a"])


@pytest.mark.parametrize("content", [None, b"", b"not a zip"])
def test_what_is_neither_folder_nor_zip_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "images.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="cannot read the training data .*images.zip.*--data"):
        read(path, "train", ["a"])


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_a_broken_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "0.jpg").write_bytes(content)
    with pytest.raises(ImageError, match="train/a/0.jpg is not an image that can be decoded"):
        read(tmp_path, "train", ["a"])


def test_images_of_two_sizes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    for side in (8, 9):
        cv2.imwrite(
            str(tmp_path / "train" / "a" / f"{side}.png"), np.zeros((side, side, 3), np.uint8)
        )
    with pytest.raises(InputError, match="have 2 sizes"):
        read(tmp_path, "train", ["a"])


def test_a_damaged_member_of_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("train/a/0.jpg", b"0123456789" * 10)
    stored = bytearray(path.read_bytes())
    stored[60] ^= 255
    path.write_bytes(stored)
    with pytest.raises(InputError, match="Bad CRC-32"):
        read(path, "train", ["a"])
