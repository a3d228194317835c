"""The same images from a folder and from archives; what is wrong is said."""

import lzma
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.errors import ImageError, InputError
from edgekit.learn.data.source import Data, read
from edgekit.learn.recipe.data import ClassSpec, DataSpec
from tests.learn.conftest import picture
from tests.learn.data.conftest import Made

Write = Callable[[Made], Path]


def pack(path: Path, files: Made) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def pack_xz(path: Path, files: Made) -> Path:
    plain = pack(path.with_suffix(".plain"), files)
    path.write_bytes(lzma.compress(plain.read_bytes(), preset=0))
    return path


def fingerprints(data: Data) -> tuple[str, str]:
    return data.train.fingerprint, data.validation.fingerprint


def test_all_layouts_hold_the_same_images(made: Made, write: Write, tmp_path: Path) -> None:
    backwards = dict(reversed(made.items()))
    junk = {"__MACOSX/train/a/._0.png": b"", "train/a/.hidden.png": b"", "train/notes.txt": b"no"}
    found = [
        read(DataSpec(path), ())
        for path in (
            write(made | {name: content for name, content in junk.items() if "MAC" not in name}),
            pack(tmp_path / "data.zip", backwards | junk),
            pack_xz(tmp_path / "data.zip.xz", made),
            pack(tmp_path / "in one folder.zip", {f"all/{n}": made[n] for n in made}),
        )
    ]
    assert len({fingerprints(data) for data in found}) == 1
    for data in found:
        assert [spec.folder for spec in data.classes] == ["a", "b", "c"]
        assert isinstance(data.train.pixels, np.ndarray)
        np.testing.assert_array_equal(data.train.pixels[13], picture("b", 3))
        np.testing.assert_array_equal(data.train.targets, np.repeat([0, 1, 2], 10))
        assert len(data.validation) == 12


def test_a_fingerprint_knows_bytes_names_and_classes(made: Made, write: Write) -> None:
    path = write(made)
    before = read(DataSpec(path), ()).train.fingerprint
    swapped = tuple(ClassSpec(folder, folder) for folder in "bac")
    assert read(DataSpec(path), swapped).train.fingerprint != before
    (path / "train/a/0.png").rename(path / "train/a/00.png")
    renamed = read(DataSpec(path), ()).train.fingerprint
    (path / "train/a/00.png").write_bytes(made["train/a/1.png"])
    assert len({before, renamed, read(DataSpec(path), ()).train.fingerprint}) == 3


def test_the_class_list_gives_the_order_and_may_be_a_subset(made: Made, write: Write) -> None:
    path = write(made)
    classes = (ClassSpec("c", "cherry"), ClassSpec("a", "apple"))
    with pytest.raises(InputError, match=r"the folder 'b' .*data.subset = true"):
        read(DataSpec(path), classes)
    data = read(DataSpec(path, subset=True), classes)
    np.testing.assert_array_equal(data.train.targets, np.repeat([1, 0], 10))
    np.testing.assert_array_equal(data.train.pixels[10], picture("c", 0))


def test_a_limit_takes_the_first_of_each_class(made: Made, write: Write) -> None:
    data = read(DataSpec(write(made), limit=5), ())
    np.testing.assert_array_equal(data.train.targets, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(data.train.pixels[3], picture("b", 1))
    assert len(data.validation) == 12


def test_a_share_is_held_out_of_each_class(made: Made, write: Write) -> None:
    path = write({name: made[name] for name in made if name.startswith("train/")})
    data = read(DataSpec(path, validation_share=0.3), ())
    assert np.bincount(data.validation.targets).tolist() == [3, 3, 3]
    assert np.bincount(data.train.targets).tolist() == [7, 7, 7]
    images = {image.tobytes() for part in (data.train, data.validation) for image in part.pixels}
    assert len(images) == 30, "none is in both"
    assert fingerprints(read(DataSpec(path, validation_share=0.3), ())) == fingerprints(data)
    top = read(DataSpec(path / "train", train=".", validation_share=0.3), ())
    assert np.bincount(top.train.targets).tolist() == [7, 7, 7]


def test_what_is_held_out_stays_so_when_images_come(made: Made, write: Write) -> None:
    spec = DataSpec(write(made), validation_share=0.3)
    before = {image.tobytes() for image in read(spec, ()).validation.pixels}
    fewer = {name for name in made if name.startswith("train/") and not name.endswith("9.png")}
    for name in set(made) - fewer:
        (spec.path / name).unlink()
    after = {image.tobytes() for image in read(spec, ()).validation.pixels}
    assert len(before & after) >= 6, "one of each class may have gone"


@pytest.mark.parametrize(
    ("name", "flags", "compare"),
    [
        ("grey", cv2.IMREAD_GRAYSCALE, lambda p: np.repeat(p.mean(2, keepdims=True), 3, 2)),
        ("alpha", cv2.IMREAD_UNCHANGED, lambda p: p),
        ("deep", cv2.IMREAD_ANYDEPTH, lambda p: p),
    ],
)
def test_unusual_images_become_rgb(
    made: Made,
    write: Write,
    name: str,
    flags: int,
    compare: Callable[[np.ndarray], np.ndarray],
) -> None:
    bgr = picture("a", 0)[:, :, ::-1]
    stored = {
        "grey": np.ascontiguousarray(bgr.mean(2).astype(np.uint8)),
        "alpha": np.dstack([bgr, np.full(bgr.shape[:2], 9, np.uint8)]),
        "deep": bgr.astype(np.uint16) * 257,
    }[name]
    encoded = cv2.imencode(".png", stored)[1].tobytes()
    pixels = read(DataSpec(write(made | {"train/a/0.png": encoded})), ()).train.pixels[0]
    np.testing.assert_allclose(pixels, compare(picture("a", 0).astype(float)), atol=1)


def test_an_image_is_turned_upright(made: Made, write: Write) -> None:
    image = np.zeros((24, 24, 3), np.uint8)
    image[:12] = 255
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"  # orientation 6
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    pixels = read(DataSpec(write(made | {"train/a/0.jpg": turned})), ()).train.pixels[0]
    assert pixels[:, 14:].min() > 240, "the top has gone to the right"
    assert pixels[:, :10].max() < 15


def test_images_of_several_sizes_are_a_tuple(made: Made, write: Write) -> None:
    wide = cv2.imencode(".png", np.zeros((5, 9, 3), np.uint8))[1].tobytes()
    pixels = read(DataSpec(write(made | {"train/b/0.png": wide})), ()).train.pixels
    assert isinstance(pixels, tuple)
    assert [pixels[i].shape for i in (9, 10, 11)] == [(24, 24, 3), (5, 9, 3), (24, 24, 3)]
    np.testing.assert_array_equal(pixels[9], picture("a", 9))


@pytest.mark.parametrize("kind", ["folder", "zip", "xz"])
def test_what_does_not_fit_is_decoded_when_asked_for(
    made: Made, write: Write, tmp_path: Path, kind: str
) -> None:
    path = {
        "folder": lambda: write(made),
        "zip": lambda: pack(tmp_path / "data.zip", made),
        "xz": lambda: pack_xz(tmp_path / "data.zip.xz", made),
    }[kind]()
    fits = read(DataSpec(path, memory=30 * 24 * 24 * 3 / 2**30), ())
    lazy = read(DataSpec(path, memory=29 * 24 * 24 * 3 / 2**30), ())
    assert isinstance(fits.train.pixels, np.ndarray)
    assert not isinstance(lazy.train.pixels, np.ndarray | tuple)
    assert isinstance(lazy.validation.pixels, np.ndarray), "each split by itself"
    assert fingerprints(fits) == fingerprints(lazy)
    np.testing.assert_array_equal(np.stack(list(lazy.train.pixels)), fits.train.pixels)
    np.testing.assert_array_equal(list(lazy.train.pixels[3:5]), fits.train.pixels[3:5])


def without(made: Made, start: str) -> Made:
    return {name: made[name] for name in made if not name.startswith(start)}


@pytest.mark.parametrize(
    ("change", "spec", "message"),
    [
        (lambda m: without(m, "val/"), {}, "'val'; expected .* are: train. .*validation_share"),
        (lambda m: without(m, "train/"), {}, "'train'; expected .* are: val. Name .*data.train"),
        (lambda m: m | {"train/x.png": m["train/a/0.png"]}, {}, "has train/x.png beside the class"),
        (lambda m: without(m, "val/b"), {}, "'val' has no images of 'b' (1 of 3 classes"),
        (lambda m: m | {"val/d/0.png": m["val/a/0.png"]}, {}, "the folder 'd' (1 such in all)"),
        (
            lambda m: without(m, "train/a") | {"train/a/0.png": m["train/a/0.png"]},
            {"validation_share": 0.1},
            "one image of 'a': none can be held out",
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_missing_or_strange_is_said(
    made: Made,
    write: Write,
    tmp_path: Path,
    change: Callable[[Made], Made],
    spec: dict[str, float],
    message: str,
    packed: bool,
) -> None:
    files = change(made)
    path = pack(tmp_path / "data.zip", files) if packed else write(files)
    wanted = message.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(InputError, match=wanted):
        read(replace(DataSpec(path), **spec), ())  # type: ignore[arg-type]


def test_a_damaged_image_is_named(made: Made, write: Write) -> None:
    path = write(made | {"train/b/3.png": made["train/b/3.png"][:40]})
    with pytest.raises(ImageError, match="train/b/3.png .*cannot be decoded|train/b/3.png"):
        read(DataSpec(path), ())
    (path / "train/b/3.png").write_bytes(b"")
    with pytest.raises(ImageError, match="train/b/3.png"):
        read(DataSpec(path), ())


def test_damaged_and_missing_archives(made: Made, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training data at .*--data"):
        read(DataSpec(tmp_path / "absent"), ())
    (tmp_path / "data.rar").write_bytes(b"Rar!")
    with pytest.raises(InputError, match="neither a folder nor a .zip"):
        read(DataSpec(tmp_path / "data.rar"), ())
    whole = pack(tmp_path / "data.zip", made)
    content = bytearray(whole.read_bytes())
    whole.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="damaged or no zip: copy or download it again"):
        read(DataSpec(whole), ())
    content[1000:1010] = b"\xaa" * 10
    whole.write_bytes(content)
    with pytest.raises(InputError, match="cannot read train/a/0.png of .*: Bad CRC-32"):
        read(DataSpec(whole), ())
    xz = pack_xz(tmp_path / "data.zip.xz", made)
    xz.write_bytes(xz.read_bytes()[:-2000])
    with pytest.raises(InputError, match="damaged or no zip"):
        read(DataSpec(xz), ())


def test_a_password_is_noticed(made: Made, tmp_path: Path) -> None:
    path = pack(tmp_path / "data.zip", made)
    content = bytearray(path.read_bytes())
    for start in range(len(content) - 4):
        if content[start : start + 4] == b"PK\x01\x02":  # the central directory's entries
            content[start + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="asks for a password"):
        read(DataSpec(path), ())
