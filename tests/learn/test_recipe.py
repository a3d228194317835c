"""Recipes: the carried ones are read; a key or value that makes no sense is named."""

from pathlib import Path

import pytest

from edgekit.errors import SpecError
from edgekit.learn.recipe import read
from edgekit.plugins import architectures

TINY50 = "mobilenet_v2-tiny50.toml"


def test_every_carried_recipe_is_read(root: Path) -> None:
    paths = sorted((root / "recipes").glob("*.toml"))
    assert paths
    for path in paths:
        recipe = read(path)
        assert recipe.model.architecture in architectures()
        assert recipe.teacher.model.architecture in architectures()
        assert recipe.data.parts[0] != "/"
        assert recipe.teacher.weights.parts[0] != "/"


def test_the_first_recipe_is_the_one_of_the_carried_checkpoint(root: Path) -> None:
    from edgekit import checkpoint

    recipe = read(root / "recipes" / TINY50)
    card = checkpoint.read(checkpoint.default()).card
    assert card is not None
    assert (card.recipe, card.seed, card.image) == (recipe.name, recipe.seed, recipe.image)
    assert card.labels == tuple(spec.label for spec in recipe.classes)
    assert card.arguments == recipe.model.arguments
    folders = [spec.folder for spec in recipe.classes]
    assert folders == sorted(folders)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("seed =", "sede = 1\nseed =", "unknown key 'sede'"),
        ("min_area =", "smallest = 1\nmin_area =", "unknown key 'views.smallest'"),
        ("seed = ", "seed = 'one' # ", "'seed'"),
        ("num_classes = 50", "num_classes = 49", "'model.arguments.num_classes' is 49"),
        ("hard = ", "hard = 2 # ", "'teacher.hard' must be in [0, 1], got 2"),
        ("min_area = ", "min_area = 0 # ", "'views.min_area' must be in (0, 1]"),
        ("count = ", "count = 0 # ", "'views.count' must be at least 1"),
        ("max_ratio = ", "max_ratio = 0.5 # ", "'views.max_ratio' must be at least 1"),
        ("warmup_epochs = ", "warmup_epochs = 900 # ", "'schedules.0.warmup_epochs' is 900"),
        ("batch = ", "batch = 0 # ", "'schedules.0.batch' must be at least 1"),
        ("temperature = ", "temperature = 0 # ", "'teacher.temperature'"),
        ("average_decay = ", "average_decay = 1 # ", "'schedules.0.average_decay'"),
        ("stages = ", "stages = [{epochs = 1, size = 0}] # ", "sizes of at least 1 pixel"),
        ('folder = "n01641577"', 'folder = "n01443537"', "names a folder twice"),
        ("classes = [", "classes = []\nothers = [", "'others'"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(
    root: Path, tmp_path: Path, old: str, new: str, reason: str
) -> None:
    text = (root / "recipes" / TINY50).read_text()
    assert old in text
    path = tmp_path / "changed.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SpecError) as caught:
        read(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_recipe_without_an_epoch_is_refused(root: Path, tmp_path: Path) -> None:
    text = (root / "recipes" / TINY50).read_text().replace("[[schedules]]", "[[schedules.x]]")
    path = tmp_path / "changed.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match="'schedules"):
        read(path)
    head, _, tail = text.partition("[[schedules.x]]")
    path.write_text(f"schedules = []\n{head}" + tail[tail.index("[teacher]") :])
    with pytest.raises(SpecError, match="'schedules' must have at least one epoch"):
        read(path)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read .*absent.toml"):
        read(tmp_path / "absent.toml")
