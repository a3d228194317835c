"""What processes share in a step: in two real ones, against one that has all images."""

from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from torch import Tensor, nn

from edgekit.learn.train.place import HERE
from edgekit.learn.train.sync import synchronised
from tests.learn.train import workers
from tests.learn.train.processes import start, work

EXACT = 1e-9
"""In float64, where sums of other parts differ by some 1e-13 of values around 20."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[CompletedProcess[str]]]:
    """What two processes found, and how they ended."""
    out = tmp_path_factory.mktemp("shared")
    return out, start(work("share", out))


def _together(out: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    parts = [torch.load(out / f"{name}-{rank}.pt") for rank in (0, 1)]
    return parts[0], parts[1]


@pytest.mark.parametrize("name", workers.NORMS)
def test_batch_norm_sees_the_images_of_all_processes(
    name: str, shared: tuple[Path, list[CompletedProcess[str]]]
) -> None:
    whole = workers.normed(name, slice(None), HERE, torch.float64)
    first, second = _together(shared[0], name)
    for key, wanted in whole.items():
        if key in ("out", "grad", "evaluated"):  # of images: each process has its own
            if not (key == "evaluated" and name == "untracked"):  # by its own batch, as torch does
                torch.testing.assert_close(
                    torch.cat([first[key], second[key]]), wanted, rtol=EXACT, atol=EXACT
                )
        elif key.startswith("of "):  # the mean over processes is taken of parameters' gradients
            torch.testing.assert_close(first[key] + second[key], wanted, rtol=EXACT, atol=EXACT)
        else:
            torch.testing.assert_close(first[key], wanted, rtol=EXACT, atol=EXACT)
            assert torch.equal(first[key], second[key])


def test_batch_norm_in_float32_is_as_exact_as_torchs(
    shared: tuple[Path, list[CompletedProcess[str]]],
) -> None:
    exact = workers.normed("2d", slice(None), HERE, torch.float64)
    first, second = _together(shared[0], "single")
    torchs = workers.normed("2d", slice(None), HERE, torch.float32)
    for key in ("out", "grad"):
        ours = (torch.cat([first[key], second[key]]) - exact[key]).abs().max()
        theirs = (torchs[key] - exact[key]).abs().max()
        assert ours < 4 * theirs + 1e-6


def test_gradients_are_those_of_one_process_with_all_images(
    shared: tuple[Path, list[CompletedProcess[str]]], tmp_path: Path
) -> None:
    workers.gradients(HERE, tmp_path)
    whole = torch.load(tmp_path / "gradients-0.pt")
    for part in _together(shared[0], "gradients"):
        assert part.keys() == whole.keys()
        for key, wanted in whole.items():
            torch.testing.assert_close(part[key], wanted, rtol=EXACT, atol=EXACT)


def test_a_parameter_without_a_part_in_the_loss_is_named(
    shared: tuple[Path, list[CompletedProcess[str]]],
) -> None:
    assert [process.returncode for process in shared[1]] in ([1, 2], [2, 1])  # 1: a traceback
    said = "".join(process.stderr for process in shared[1])
    assert said.count("SpecError: 2 parameters have no part in the loss, as 'idle.weight'") == 1


def test_one_process_keeps_torchs_own_batch_norm() -> None:
    norm = nn.BatchNorm2d(3)
    with synchronised(norm, HERE):
        assert "forward" not in norm.__dict__
