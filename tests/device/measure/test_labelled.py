from pathlib import Path

import pytest

from edgekit.device.measure.labelled import find
from edgekit.errors import ImageError, InputError

NAMES = ("red", "green", "blue")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.png", "b b.png", "c.png"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"")
    return tmp_path / "photos"


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "1.png").write_bytes(b"")
    return root


def test_without_labels_nobody_says(photos: Path) -> None:
    found = find(photos, None, NAMES)
    assert [path.name for path in found.paths] == ["a.png", "b b.png", "c.png"]
    assert found.classes is None


def test_a_file_names_them_and_leaves_others_out(photos: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("c.png 2\n\nb b.png 0\n")
    found = find(photos, labels, NAMES)
    assert [path.name for path in found.paths] == ["c.png", "b b.png"]
    assert found.classes == (2, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a.png", "line 1: 'a.png' is not a file's name and the index"),
        ("a.png 0\na.png 3", "line 2: 'a.png 3' is not"),
        ("a.png -1", "0 to 2, as in 'photo.jpg 17'"),
        ("nowhere.png 1", "line 1: there is no"),
        ("\n", "names no image"),
    ],
)
def test_a_wrong_line_is_said(photos: Path, tmp_path: Path, text: str, says: str) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text(text)
    with pytest.raises(InputError) as caught:
        find(photos, labels, NAMES)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("blue", "red"), (2, 0)),  # by label, in the order of the paths
        (("0", "2"), (0, 2)),  # by index
        (("n01", "n02", "n03"), (0, 1, 2)),  # by place, where there are as many as classes
    ],
    ids=["label", "index", "place"],
)
def test_a_folder_a_class(
    tmp_path: Path, kinds: tuple[str, ...], expected: tuple[int, ...]
) -> None:
    assert find(folders(tmp_path, *kinds), None, NAMES).classes == expected


def test_folders_that_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no classes: there are 2 .n01, n02"):
        find(folders(tmp_path, "n01", "n02"), None, NAMES)


def test_no_labels_file_and_no_folder(photos: Path) -> None:
    with pytest.raises(InputError, match="cannot read the labels"):
        find(photos, photos / "absent.txt", NAMES)
    with pytest.raises(ImageError):
        find(photos / "absent", None, NAMES)
