"""A recipe is read as it was meant, or refused with the reason."""

from pathlib import Path

import pytest

from edgekit.errors import InputError, SpecError, UnknownName
from edgekit.learn.recipe.fit import Fit, Stage
from edgekit.learn.recipe.read import read
from edgekit.learn.recipe.recipe import seeded
from edgekit.learn.recipe.steps import BuildStep, PruneStep, QuantizeStep, TrainStep

ROOT = Path(__file__).parents[3]
HEAD = """
name = "small"
seed = 1
trained_on = "made up"
license = "Apache-2.0"
[data]
path = "images"
{data}
[model]
architecture = "mobilenet_v2"
{model}
[image]
height = 32
width = 32
[augment]
{augment}
"""
TRAIN = """
[[steps]]
kind = "train"
fit = {epochs = 2, learning_rate = 0.1}
"""


def written(
    folder: Path, steps: str = TRAIN, data: str = "", model: str = "", augment: str = ""
) -> Path:
    path = folder / "small.toml"
    path.write_text(HEAD.format(data=data, model=model, augment=augment) + steps)
    return path


def test_a_chain_is_read_in_its_order(tmp_path: Path) -> None:
    steps = """
[[steps]]
kind = "distill"
fit = {stages = [{epochs = 2, size = 24}, {epochs = 1, size = 32}], learning_rate = 0.1}
distill = {teachers = [{source = "before"}], cache = false}
[[steps]]
kind = "prune"
name = "narrow"
method = "channels"
macs = 0.5
fit = {epochs = 1, learning_rate = 0.1}
[[steps]]
kind = "quantize"
fit = {epochs = 1, learning_rate = 0.1}
[[steps]]
kind = "build"
target = "jetson"
"""
    recipe = read(written(tmp_path, steps))
    assert [type(step) for step in recipe.steps] == [TrainStep, PruneStep, QuantizeStep, BuildStep]
    assert [step.name for step in recipe.steps] == ["distill", "narrow", "quantize", "build"]
    assert recipe.steps[0].fit.sizes == (Stage(2, 24), Stage(1, 32))  # type: ignore[union-attr]
    assert recipe.text == (tmp_path / "small.toml").read_text()
    assert seeded(recipe, 7).head.seed == 7


def test_the_linear_scaling_rule() -> None:
    assert Fit(learning_rate=0.1, batch=1024, reference_batch=256).peak_rate == pytest.approx(0.4)
    assert Fit(learning_rate=0.1, batch=1024).peak_rate == 0.1


def test_classes_of_a_file_beside_the_recipe(tmp_path: Path) -> None:
    path = written(tmp_path, data='classes = "two.toml"')
    (tmp_path / "two.toml").write_text(
        'classes = [{folder = "a", label = "ant"}, {folder = "b", label = "bee", imagenet = 309}]'
    )
    assert [(c.folder, c.label, c.imagenet) for c in read(path).classes] == [
        ("a", "ant", -1),
        ("b", "bee", 309),
    ]
    (tmp_path / "two.toml").write_text('classes = [{folder = "a", label = "ant", colour = 1}]')
    with pytest.raises(SpecError, match=r"two.toml: .*colour"):
        read(path)
    (tmp_path / "two.toml").unlink()
    with pytest.raises(SpecError, match=r"two.toml"):
        read(path)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"steps": ""}, "there are no steps"),
        ({"steps": "[[steps]]\nname = 'x'"}, "step 1 has no 'kind'"),
        ({"steps": "[[steps]]\nkind = 'trian'"}, "did you mean 'train'"),
        ({"steps": "steps = 3"}, "small.toml"),
        ({"steps": "[[steps]]\nkind = 'build'"}, "the first step is a build"),
        ({"steps": TRAIN + TRAIN}, "two steps are called 'train'"),
        ({"steps": TRAIN.replace("0.1", "0")}, "learning_rate must be above 0"),
        ({"steps": TRAIN.replace("0.1", "0.1, colour = 1")}, "unknown key 'fit.colour'"),
        ({"steps": TRAIN.replace("0.1", "0.1, batch = 10, accumulate = 3")}, "3 equal parts"),
        ({"steps": TRAIN.replace("0.1", "0.1, warmup_epochs = 3")}, "warmup_epochs is 3"),
        ({"steps": TRAIN.replace("0.1", "0.1, momentum = 1")}, "momentum must be in [0, 1)"),
        (
            {"steps": TRAIN.replace("0.1", "0.1, stages = [{epochs = 1, size = 8}]")},
            "'epochs' or 'stages', not both",
        ),
        ({"steps": TRAIN.replace('"train"', '"train"\nname = "a/b"')}, "no name for a step"),
        ({"steps": TRAIN.replace("train", "distill")}, "no [steps.distill] with its teachers"),
        (
            {"steps": TRAIN + "distill = {teachers = []}"},
            "there are no teachers",
        ),
        (
            {"steps": TRAIN + "distill = {teachers = [{source = 'before'}]}"},
            "'augment.views' above 0",
        ),
        (
            {"steps": TRAIN.replace('"train"', '"prune"\nmethod = "channels"')},
            "give one of macs, parameters and latency",
        ),
        (
            {"steps": TRAIN.replace('"train"', '"prune"\nmethod = "n:m"\nn = 4')},
            "n must be in 1 to m - 1, got 4:4",
        ),
        (
            {"steps": TRAIN.replace('"train"', '"prune"\nmethod = "magnitude"')},
            "sparsity must be in (0, 1), got 0",
        ),
        (
            {"steps": TRAIN.replace('"train"', '"prune"\nmethod = "l1"\nsparsity = 0.5')},
            "l1 needs a penalty above 0",
        ),
        (
            {"steps": TRAIN.replace('"train"', '"quantize"\nfreeze_observers = 2')},
            "freeze_observers must be in [0, 1]",
        ),
        ({"augment": "mirror = 2"}, "'augment.mirror' must be in [0, 1], got 2"),
        ({"augment": "min_area = 0"}, "'augment.min_area' must be in (0, 1]"),
        ({"augment": "turn = 1"}, "unknown key 'augment.turn'"),
        ({"data": "train = 'val'"}, "accuracy would be measured on what was learned"),
        ({"model": "weigths = 'x'"}, "unknown key 'model.weigths'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, given: dict[str, str], reason: str) -> None:
    with pytest.raises((SpecError, UnknownName)) as caught:
        read(written(tmp_path, **given))
    assert reason in str(caught.value)


def test_classes_and_outputs_that_do_not_fit(tmp_path: Path) -> None:
    path = written(tmp_path, data='classes = "c.toml"', model="arguments = {num_classes = 3}")
    for text, reason in (
        ('classes = [{folder = "a", label = "x"}]', "two are the fewest"),
        ('classes = [{folder="a", label="x"}, {folder="a", label="y"}]', "names a folder twice"),
        ('classes = [{folder="a", label="x"}, {folder="b", label="y"}]', "num_classes' is 3"),
    ):
        (tmp_path / "c.toml").write_text(text)
        with pytest.raises(SpecError, match=reason):
            read(path)


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent.toml: No such file"):
        read(tmp_path / "absent.toml")


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_our_own_recipes_are_read(path: Path) -> None:
    recipe = read(path)
    assert recipe.steps
    assert recipe.head.name
