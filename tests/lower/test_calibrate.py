import hashlib
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.errors import ImageError, InputError, MissingPackage
from edgekit.lower import calibrate
from edgekit.lower.calibrate import (
    LEAST,
    LONGEST,
    Images,
    check_for_quantising,
    from_folder,
    from_photographs,
    spaced,
)
from edgekit.spec import ImageSpec

IMAGE = ImageSpec(16, 24)


def picture(seed: int, height: int = 40, width: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for n in range(count):
        assert cv2.imwrite(str(folder / f"{n:03}.png"), picture(n))


def given(inputs: list[np.ndarray]) -> Images:
    return Images(tuple(tensor[0] for tensor in inputs), tuple(inputs), "the folder 'mine'")


def noise(count: int) -> list[np.ndarray]:
    return [picture(n)[np.newaxis] for n in range(count)]


def flat(count: int) -> list[np.ndarray]:
    return [np.full((1, 40, 50, 3), n, np.uint8) for n in range(count)]


def test_enough_images_are_taken() -> None:
    check_for_quantising(given(noise(LEAST)))
    check_for_quantising(given(noise(LEAST) + flat(10) + noise(5)))


@pytest.mark.parametrize("count", [0, 1, LEAST - 1])
def test_too_few_are_refused_with_the_count(count: int) -> None:
    with pytest.raises(InputError) as caught:
        check_for_quantising(given(noise(count)))
    message = str(caught.value)
    assert f"at least {LEAST} images" in message
    assert f"the folder 'mine' gives {count};" in message
    assert "--precision fp16" in message


def test_constant_images_are_refused_with_the_reason() -> None:
    with pytest.raises(InputError) as caught:
        check_for_quantising(given(noise(LEAST - 1) + flat(9)))
    message = str(caught.value)
    assert f"of the {LEAST + 8} in the folder 'mine', 9 are constant" in message


def test_a_flat_image_with_a_little_noise_is_constant_too() -> None:
    dull = [np.full((1, 40, 50, 3), 90, np.uint8) + (tensor > 200) for tensor in noise(LEAST)]
    assert all(len(np.unique(tensor)) == 2 for tensor in dull)
    with pytest.raises(InputError, match="constant"):
        check_for_quantising(given([tensor.astype(np.uint8) for tensor in dull]))


def test_copies_are_refused_with_the_reason() -> None:
    with pytest.raises(InputError) as caught:
        check_for_quantising(given(noise(LEAST - 1) + noise(7)))
    message = str(caught.value)
    assert f"of the {LEAST + 6} in the folder 'mine', 7 are copies of each other" in message


def test_a_folder_is_read_in_name_order_evenly_spaced(tmp_path: Path) -> None:
    write(tmp_path / "mine", 9)
    found = from_folder(tmp_path / "mine", IMAGE, limit=4)
    assert found.source == "mine"
    assert len(found.frames) == 4
    for frame, n in zip(found.frames, (0, 2, 4, 6), strict=True):
        np.testing.assert_array_equal(frame[:, :, ::-1], picture(n))
    assert all(t.shape == (1, 16, 24, 3) and t.dtype == np.uint8 for t in found.inputs)
    assert from_folder(tmp_path / "mine", IMAGE, limit=4).sha256 == found.sha256
    assert len(from_folder(tmp_path / "mine", IMAGE).inputs) == 9


def test_the_order_is_that_of_names_not_of_writing(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write(first, 5)
    second.mkdir()
    for path in sorted(first.iterdir(), reverse=True):
        (second / path.name).write_bytes(path.read_bytes())
    assert from_folder(first, IMAGE).sha256 == from_folder(second, IMAGE).sha256


def test_the_fingerprint_is_of_the_inputs_in_their_order() -> None:
    inputs = noise(3)
    digest = hashlib.sha256(b"".join(tensor.tobytes() for tensor in inputs)).hexdigest()
    assert given(inputs).sha256 == digest
    assert given(inputs[::-1]).sha256 != digest


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none here")
    with pytest.raises(InputError, match="no images"):
        from_folder(tmp_path, IMAGE)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, 3)
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(ImageError) as caught:
        from_folder(tmp_path, IMAGE)
    assert "broken.png" in str(caught.value)


def test_large_frames_are_shrunk_and_small_ones_are_not(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture(0, LONGEST, 4 * LONGEST))
    cv2.imwrite(str(tmp_path / "b.png"), picture(1, 1200, 2))
    cv2.imwrite(str(tmp_path / "c.png"), picture(2, 100, LONGEST))
    shapes = [frame.shape for frame in from_folder(tmp_path, IMAGE).frames]
    assert shapes == [(LONGEST // 4, LONGEST, 3), (LONGEST, 1, 3), (100, LONGEST, 3)]


def test_the_photographs_are_the_same_each_time_and_all_different() -> None:
    first, second = from_photographs(IMAGE, 64), from_photographs(IMAGE, 64)
    assert first.sha256 == second.sha256
    assert len({tensor.tobytes() for tensor in first.inputs}) == 64
    assert all(np.array_equal(a, b) for a, b in zip(first.frames, second.frames, strict=True))
    check_for_quantising(first)
    fewer = from_photographs(IMAGE, 20)
    assert all(np.array_equal(a, b) for a, b in zip(fewer.inputs, first.inputs, strict=False))


def test_the_photographs_are_pictures_of_many_kinds() -> None:
    found = from_photographs(IMAGE, 20)
    means = [float(frame.mean()) for frame in found.frames]
    assert max(means) - min(means) > 80
    assert any(frame.std(axis=2).mean() > 10 for frame in found.frames), "colour"
    assert all(max(frame.shape[:2]) <= LONGEST for frame in found.frames)


def test_without_scikit_image_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingPackage, match="edgekit\\[host\\]"):
        from_photographs(IMAGE)


def test_spaced() -> None:
    assert spaced(range(10), 3) == [0, 3, 6]
    assert spaced(range(3), 5) == [0, 1, 2]
    assert spaced([], 5) == []
    assert spaced(range(1000), 128)[0] == 0
    assert len(set(spaced(range(1000), 128))) == 128


def test_the_first_of_some_images_are_spaced() -> None:
    found = given(noise(10)).first(5)
    for tensor, n in zip(found.inputs, (0, 2, 4, 6, 8), strict=True):
        np.testing.assert_array_equal(tensor, noise(10)[n])
    assert len(found.frames) == 5
    assert given(noise(3)).first(48).sha256 == given(noise(3)).sha256


def test_the_limit_is_enough_for_quantising() -> None:
    assert calibrate.CALIBRATION >= LEAST
