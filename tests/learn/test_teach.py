"""A step's run: what it leaves in its folder."""

from pathlib import Path

from edgekit.learn.first import first_network
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.recipe.recipe import Recipe
from edgekit.learn.teach import teach
from edgekit.learn.train.log import read
from edgekit.learn.work import Work
from tests.learn.conftest import Silent


def test_a_run_leaves_its_log_and_its_picture(
    recipe: Recipe, how: Fit, work: Work, watch: Silent, tmp_path: Path
) -> None:
    module = first_network(recipe, work.data)
    short = Fit(0.01, epochs=2, batch=8)
    fitted = teach(module, short, None, work, module, task="round-1")
    assert {path.name for path in tmp_path.iterdir()} == {
        "round-1.csv",
        "round-1.steps.csv",
        "round-1.svg",
        "round-1.state.pt",
        "tensorboard",
    }
    assert [row["top1"] for row in read(tmp_path / "round-1.csv")] == [
        row["top1"] for row in fitted.rows
    ]
    assert [int(line["step"]) for line in read(tmp_path / "round-1.steps.csv")] == [*range(1, 7)]
    assert sum("epoch 2/2" in line for line in watch.lines) == 1


def test_a_run_of_no_epochs_leaves_the_network_as_it_is(recipe: Recipe, work: Work) -> None:
    module = first_network(recipe, work.data)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    fitted = teach(module, Fit(0.01, epochs=0, batch=8), None, work, module)
    assert not fitted.rows
    assert all(value.equal(before[n]) for n, value in fitted.module.state_dict().items())
