"""The training loop: what it computes, when it ends, and how it goes on."""

import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import CheckpointError, SpecError
from edgekit.learn.recipe.fit import Stage
from edgekit.learn.train.lesson import Lesson
from edgekit.learn.train.objective import Labels, Part
from edgekit.learn.train.state import State
from tests.learn.train.conftest import Kept, run, same, small_net

Make = Callable[..., Lesson]


class Stopped(BaseException):
    """As a kill: nothing is saved on the way out."""


@pytest.mark.parametrize(
    "how",
    [
        {"average_decay": 0.9},
        {"optimizer": "sgd", "clip_norm": 0.5, "patience": 3},
        {"precision": "bf16", "accumulate": 2},
        {"precision": "fp16"},
    ],
)
def test_a_killed_run_ends_with_the_same_weights(lesson: Make, tmp_path: Path, how: dict) -> None:  # type: ignore[type-arg]
    told = lesson(epochs=3, warmup_epochs=1, save_every_s=0.0, **how)
    whole = Kept()
    expected = run(small_net(), told, tmp_path / "whole", whole)
    for seed, kill in ((0, 2), (9, 3), (9, 1)):  # another seed: all must come from the file
        with pytest.raises(Stopped):
            run(small_net(seed=seed), told, tmp_path / "killed", Kept(kill, Stopped()))
    last = Kept()
    found = run(small_net(seed=9), told, tmp_path / "killed", last)
    assert last.began[0] > 0
    assert last.points == whole.points[last.began[0] :]
    assert [row["loss"] for row in found.rows] == [row["loss"] for row in expected.rows]
    assert same(found.module, expected.module)


def test_a_run_that_is_done_is_not_run_again(lesson: Make, tmp_path: Path) -> None:
    first = run(small_net(), lesson(), tmp_path)
    again = Kept()
    second = run(small_net(seed=9), lesson(), tmp_path, again)
    assert not again.points
    assert second.rows == first.rows
    assert same(second.module, first.module)


def test_a_damaged_state_is_refused(lesson: Make, tmp_path: Path) -> None:
    run(small_net(), lesson(), tmp_path)
    state = tmp_path / "fit.state.pt"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        run(small_net(), lesson(), tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_a_step_and_the_state_is_saved(
    lesson: Make, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(number: int, frame: object) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, terminated)
    done: list[object] = []

    class Sends(Kept):
        def step(self, point: object) -> None:
            if len(done) == 3:
                os.kill(os.getpid(), number)
            done.append(point)

    try:
        with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
            run(small_net(), lesson(), tmp_path / "stopped", Sends())
        assert signal.getsignal(signal.SIGTERM) is terminated
    finally:
        signal.signal(signal.SIGTERM, before)
    last = Kept()
    found = run(small_net(seed=9), lesson(), tmp_path / "stopped", last)
    assert last.began == [4]
    assert same(found.module, run(small_net(), lesson(), tmp_path / "whole").module)


def test_parts_of_a_batch_give_the_whole_batch_s_gradient(lesson: Make, tmp_path: Path) -> None:
    modules = [
        run(
            small_net(norm=False),
            lesson(accumulate=parts, optimizer="sgd", learning_rate=0.1, smoothing=0.1),
            tmp_path / str(parts),
        ).module.double()
        for parts in (1, 2, 4)
    ]
    for module in modules[1:]:
        for one, other in zip(modules[0].parameters(), module.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_batch_that_has_no_equal_parts_is_refused(lesson: Make, tmp_path: Path) -> None:
    told = lesson()
    with pytest.raises(SpecError, match="a batch of 8 cannot be dealt out"):
        run(small_net(), replace(told, how=replace(told.how, accumulate=3)), tmp_path)


def test_the_gradient_is_clipped_after_its_scale_is_taken_off(lesson: Make, tmp_path: Path) -> None:
    norms = {}
    for precision in ("fp32", "fp16"):
        kept = Kept()
        how = {"precision": precision, "clip_norm": 0.05, "optimizer": "sgd", "epochs": 1}
        run(small_net(norm=False), lesson(**how), tmp_path / precision, kept)
        norms[precision] = [point.norm for point in kept.points]
    assert min(norms["fp32"]) > 0.05  # what is reported is the norm before
    assert norms["fp16"] == pytest.approx(norms["fp32"], rel=0.05)


def test_clipping_bounds_a_step(lesson: Make, tmp_path: Path) -> None:
    module = small_net(norm=False)
    before = [p.detach().clone() for p in module.parameters()]
    how = {"clip_norm": 0.01, "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0}
    run(module, lesson(epochs=1, learning_rate=1.0, batch=24, **how), tmp_path)
    moved = math.sqrt(
        sum(
            float((p - b).detach().square().sum())
            for p, b in zip(module.parameters(), before, strict=True)
        )
    )
    assert 0.5 * moved < 0.01 * 0.5 < 2 * moved  # the rate is half its peak in a run of one step


def test_recomputing_gives_the_same_weights(lesson: Make, tmp_path: Path) -> None:
    plain = run(small_net(), lesson(), tmp_path / "plain").module
    again = run(small_net(), lesson(recompute=True), tmp_path / "recompute").module
    assert same(plain, again)


def test_training_stops_early_and_keeps_the_best(lesson: Make, tmp_path: Path) -> None:
    seen: list[nn.Module] = []

    def top1(module: nn.Module) -> float:
        seen.append(small_net())
        seen[-1].load_state_dict(module.state_dict())
        return [0.3, 0.6, 0.5, 0.6, 0.9][len(seen) - 1]

    found = run(small_net(), lesson(epochs=5, patience=2), tmp_path, top1=top1)
    assert len(found.rows) == 4  # an equal one is not better
    assert same(found.module, seen[1])
    assert not same(found.module, seen[3])


def test_images_grow_by_stages(lesson: Make, tmp_path: Path) -> None:
    sizes: list[int] = []

    class Watched(Labels):
        def loss(self, module: nn.Module, part: Part) -> Tensor:
            sizes.append(part.inputs.shape[2])
            return super().loss(module, part)

    told = lesson(epochs=0, stages=(Stage(1, 12), Stage(1, 24)))
    run(small_net(), replace(told, objective=Watched()), tmp_path)
    assert sizes == [12] * 3 + [24] * 3


def test_the_state_has_what_a_run_goes_on_from(lesson: Make, tmp_path: Path) -> None:
    run(small_net(), lesson(precision="fp16", average_decay=0.5, patience=1), tmp_path)
    stored = torch.load(tmp_path / "fit.state.pt", weights_only=True)
    assert stored["scaler"]["scale"] > 0
    assert {"module", "average", "best", "optimiser", "rows"} <= stored.keys()
    assert set(State.__slots__) - {"beside"} <= stored.keys()


def test_a_run_that_cannot_be_saved_says_so_before_it_learns(lesson: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = Kept()
    with pytest.raises(Exception, match="cannot write"):
        run(small_net(), lesson(), tmp_path / "file", kept)
    assert not kept.points
