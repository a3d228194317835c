"""The loop learns, goes on where it was stopped, and says when it cannot."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.errors import CheckpointError, SpecError, StorageError
from edgekit.learn.data import Images
from edgekit.learn.recipe import Augmentation, Schedule, Stage
from edgekit.learn.train import Lesson, Progress, follow, rate, to_planes, train
from edgekit.learn.views import draw
from edgekit.plugins import architecture
from edgekit.spec import ImageSpec

IMAGE = ImageSpec(16, 16, crop_fraction=1.0)
AS_IT_IS = Augmentation(count=2, min_area=1, max_ratio=1, contrast=0, brightness=0)


def small() -> nn.Module:
    torch.manual_seed(3)
    module: nn.Module = architecture("mobilenet_v2")(
        num_classes=3, width_mult=0.1, stem_stride=1, dropout=0.1
    )
    return module


@pytest.fixture
def lesson(images: Images) -> Lesson:
    answers = np.eye(3, dtype=np.float16)[images.targets]
    return Lesson(
        pixels=images.pixels,
        views=draw(len(images.pixels), 16, 16, AS_IT_IS, 0),
        answers=np.broadcast_to(answers[:, None], (24, 2, 3)),
        temperature=1.0,
        image=IMAGE,
    )


def silent(progress: Progress, average: nn.Module) -> None:
    pass


def test_one_batch_is_learned_by_heart(lesson: Lesson, schedule: Schedule, tmp_path: Path) -> None:
    losses = []
    whole = dataclasses.replace(schedule, batch=24, stages=(Stage(25, 16),), average_decay=0.0)
    train(small(), lesson, whole, 0, tmp_path / "s.pt", lambda p, _: losses.append(p.loss))
    assert len(losses) == 25
    assert losses[0] > 0.9  # ln 3 is 1.1
    assert losses[-1] < 0.15


def test_progress_counts_steps_and_epochs(
    lesson: Lesson, schedule: Schedule, tmp_path: Path
) -> None:
    seen = []
    train(small(), lesson, schedule, 0, tmp_path / "s.pt", lambda p, _: seen.append(p))
    assert [(p.epoch, p.step, p.steps) for p in seen] == [
        (epoch, step, 2) for epoch in (1, 2, 3, 4) for step in (1, 2)
    ]


def test_an_interrupted_run_ends_with_the_same_weights(
    lesson: Lesson, schedule: Schedule, tmp_path: Path
) -> None:
    def stop(progress: Progress, average: nn.Module) -> None:
        if (progress.epoch, progress.step) == (3, 1):
            raise KeyboardInterrupt

    whole = train(small(), lesson, schedule, 0, tmp_path / "whole.pt", silent)
    with pytest.raises(KeyboardInterrupt):
        train(small(), lesson, schedule, 0, tmp_path / "cut.pt", stop)
    resumed = train(small(), lesson, schedule, 0, tmp_path / "cut.pt", silent)
    for name, wanted in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], wanted, rtol=0, atol=0, msg=name)
    assert not resumed.training


def test_a_finished_run_is_not_run_again(
    lesson: Lesson, schedule: Schedule, tmp_path: Path
) -> None:
    first = train(small(), lesson, schedule, 0, tmp_path / "s.pt", silent)
    seen = []
    again = train(small(), lesson, schedule, 0, tmp_path / "s.pt", lambda p, _: seen.append(p))
    assert not seen
    for name, wanted in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], wanted), name


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_a_damaged_state_is_named(
    lesson: Lesson, schedule: Schedule, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "s.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot go on from .*s.pt.*remove that file"):
        train(small(), lesson, schedule, 0, path, silent)


def test_the_state_of_another_network_is_refused(
    lesson: Lesson, schedule: Schedule, tmp_path: Path
) -> None:
    path = tmp_path / "s.pt"
    train(small(), lesson, dataclasses.replace(schedule, stages=(Stage(1, 24),)), 0, path, silent)
    other = architecture("mobilenet_v2")(num_classes=3, width_mult=0.5, stem_stride=1)
    with pytest.raises(CheckpointError, match="cannot go on from"):
        train(other, lesson, schedule, 0, path, silent)


def test_a_state_that_cannot_be_written_ends_the_run(
    lesson: Lesson, schedule: Schedule, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        train(small(), lesson, schedule, 0, tmp_path / "file" / "s.pt", silent)


def test_a_loss_that_is_no_number_is_explained(
    lesson: Lesson, schedule: Schedule, tmp_path: Path
) -> None:
    broken = small()
    next(broken.parameters()).data.fill_(float("nan"))
    with pytest.raises(SpecError, match="the loss is nan in epoch 1.*lower learning_rate"):
        train(broken, lesson, schedule, 0, tmp_path / "s.pt", silent)


def test_the_rate_warms_up_and_falls_to_zero(schedule: Schedule) -> None:
    assert rate(0, schedule) == 0
    assert rate(0.25, schedule) == pytest.approx(0.0015)
    assert rate(0.5, schedule) == pytest.approx(0.003)
    assert rate(2.25, schedule) == pytest.approx(0.0015)
    assert rate(4, schedule) == pytest.approx(0)
    assert rate(0, dataclasses.replace(schedule, warmup_epochs=0)) == pytest.approx(0.003)


def test_planes_are_normalised_channel_by_channel() -> None:
    pixels = np.array([[[[0, 255, 51]]]], np.uint8)
    planes = to_planes(pixels, ImageSpec(1, 1, mean=(0.5, 0.5, 0.2), std=(0.5, 0.25, 1)))
    assert planes.shape == (1, 3, 1, 1)
    torch.testing.assert_close(planes.flatten(), torch.tensor([-1.0, 2.0, 0.0]))


def test_the_average_follows_weights_and_statistics() -> None:
    average, module = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    module.weight.data.fill_(3)
    module.running_mean = torch.tensor([4.0, 8.0])
    module.num_batches_tracked = torch.tensor(7)
    follow(average, module, 0.75)
    assert average.weight.tolist() == [1.5, 1.5]
    assert average.running_mean is not None
    assert average.running_mean.tolist() == [1, 2]
    assert average.num_batches_tracked is not None
    assert average.num_batches_tracked.item() == 7
