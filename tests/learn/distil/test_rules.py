"""What a recipe may say of teachers."""

from pathlib import Path

import pytest

from edgekit.errors import SpecError
from edgekit.learn.recipe.read import read
from edgekit.learn.recipe.recipe import Recipe

HEAD = """
name = "small"
seed = 1
trained_on = "made up"
license = "Apache-2.0"
[data]
path = "images"
[model]
architecture = "mobilenet_v2"
[image]
height = 24
width = 24
[augment]
views = 2
[[steps]]
kind = "distill"
fit = {learning_rate = 0.1, epochs = 1, FIT}
[steps.distill]
DISTILL
[[steps.distill.teachers]]
source = "big.tflite"
"""


def recipe_of(tmp_path: Path, teacher: str = "", distill: str = "", fit: str = "") -> Recipe:
    text = HEAD.replace(", FIT", fit and f", {fit}").replace("DISTILL", distill) + teacher
    (tmp_path / "r.toml").write_text(text)
    return read(tmp_path / "r.toml")


@pytest.mark.parametrize(
    "teacher",
    [
        "mean = [0.5, 0.5, 0.5]",
        "std = [1, 1, 1]",
        "mean = [0.5, 0.5]\nstd = [1, 1]",
        "mean = [0.5, 0.5, 0.5]\nstd = [1, 0, 1]",
    ],
)
def test_mean_and_std_go_together(tmp_path: Path, teacher: str) -> None:
    with pytest.raises(SpecError, match="'mean' and 'std' have three numbers.*big.tflite"):
        recipe_of(tmp_path, teacher)


@pytest.mark.parametrize(
    ("teacher", "said"),
    [("weight = 0", "weight is above 0"), ("size = -1", "size"), ('outputs = "all"', "outputs")],
)
def test_other_keys_of_a_teacher_are_held_to_their_rules(
    tmp_path: Path, teacher: str, said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        recipe_of(tmp_path, teacher)


def test_features_are_not_stored_and_not_compiled(tmp_path: Path) -> None:
    features = 'features = [{student = "a", teacher = "b"}]\n'
    with pytest.raises(SpecError, match="features are not stored; say cache = false"):
        recipe_of(tmp_path, distill=features)
    with pytest.raises(SpecError, match="set compile = false"):
        recipe_of(tmp_path, distill=features + "cache = false", fit="compile = true")
    recipe_of(tmp_path, distill=features + "cache = false")


def test_what_is_right_is_read(tmp_path: Path) -> None:
    found = recipe_of(tmp_path, "mean = [0, 0, 0]\nstd = [1, 1, 1]\narguments = {width_mult = 0.5}")
    step = found.steps[0]
    assert step.kind == "distill"
    assert step.distill is not None
    assert step.distill.teachers[0].std == (1, 1, 1)
