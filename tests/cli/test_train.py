"""`edgekit train` and its sisters as people call them."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.cli.main import main
from tests.cli.conftest import Ended

RECIPE = """
name = "tiny"
seed = 1
trained_on = "made up"
license = "Apache-2.0"
[data]
path = "{data}"
[model]
architecture = "mobilenet_v2"
arguments = {{width_mult = 0.1, stem_stride = 1, dropout = 0.1}}
[image]
height = 24
width = 24
crop_fraction = 1.0
interpolation = "area"
[[steps]]
kind = "train"
[steps.fit]
epochs = {epochs}
batch = 8
learning_rate = {rate}
warmup_epochs = 0.5
average_decay = 0.9
save_every_s = 0.0
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 images to learn from and 6 to measure with, of two classes."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for name, value in (("dark", 60), ("light", 200)):
            (root / split / name).mkdir(parents=True)
            for n in range(count):
                noise = rng.integers(-40, 40, (24, 24, 3))
                cv2.imwrite(str(root / split / name / f"{n}.png"), value + noise)
    return root


@pytest.fixture
def recipe(images: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe of one training step: 2 steps an epoch."""

    def write(epochs: int = 1, rate: float = 0.01) -> Path:
        path = tmp_path / "tiny.toml"
        path.write_text(RECIPE.format(data=images, epochs=epochs, rate=rate))
        return path

    return write


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """One command line in a process of its own, with one thread."""
    program = [
        sys.executable,
        "-c",
        "import sys; from edgekit.cli.main import main; sys.exit(main())",
    ]
    return subprocess.Popen(
        [*program, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def digest(out: Path) -> str:
    return hashlib.sha256((out / "1-train" / "tiny.safetensors").read_bytes()).hexdigest()


def kill_and_resume(recipe: Path, tmp_path: Path, kills: int, seed: int) -> None:
    """Kill at random moments after the first state was written; then let it end."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    began = time.monotonic()
    assert start("train", recipe, "-o", whole).wait(300) == 0
    took = time.monotonic() - began
    rng = random.Random(seed)
    state, died = cut / "1-train" / "fit.state.pt", 0
    while died < kills:
        running = start("train", recipe, "-o", cut)
        before = state.stat().st_mtime_ns if state.exists() else 0
        while running.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
            time.sleep(0.005)  # kill while it learns, not while it imports torch
        time.sleep(rng.uniform(0, 0.2 * took / kills))
        running.kill()
        assert running.wait(60) in (-signal.SIGKILL, 0)
        died += 1
    assert start("train", recipe, "-o", cut).wait(300) == 0
    assert digest(cut) == digest(whole)
    logs = [out / "1-train" / "fit.steps.csv" for out in (cut, whole)]
    assert logs[0].read_bytes() == logs[1].read_bytes()


@pytest.mark.slow
def test_twenty_kills_change_nothing(recipe: Callable[..., Path], tmp_path: Path) -> None:
    kill_and_resume(recipe(100), tmp_path, 20, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_cleanly(
    recipe: Callable[..., Path], tmp_path: Path, number: int, code: int
) -> None:
    running = start("train", recipe(1000), "-o", tmp_path / "out")
    rows = tmp_path / "out" / "1-train" / "fit.csv"
    while not rows.exists() or len(rows.read_text().splitlines()) < 2:
        time.sleep(0.02)
        assert running.poll() is None
    running.send_signal(number)
    assert running.wait(60) == code
    assert not list((tmp_path / "out" / "1-train").glob(".*"))


def test_a_run_is_told_in_a_table_and_a_path(
    edgekit: Callable[..., Ended], recipe: Callable[..., Path], tmp_path: Path
) -> None:
    ended = edgekit("train", recipe(), "-o", tmp_path / "out", "--threads", 1, "--device", "cpu")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].split() == ["step", "kind", "top-1", "MACs", "parameters"]
    assert lines[-1] == str(tmp_path / "out" / "1-train" / "tiny.safetensors")
    assert "1-train: fit: epoch 1/1, loss " in ended.err
    folder = tmp_path / "out" / "1-train"
    assert {"fit.csv", "fit.steps.csv", "fit.svg", "tensorboard"} <= {
        path.name for path in folder.iterdir()
    }


def test_another_network_by_the_same_recipe(
    edgekit: Callable[..., Ended], recipe: Callable[..., Path], tmp_path: Path
) -> None:
    path, out, name = recipe(), tmp_path / "out", ("--model", "squeezenet1_1")
    assert edgekit("train", path, "-o", out, *name).code == 0
    assert (out / "1-train" / "tiny-squeezenet1_1.safetensors").exists()
    absent = edgekit("compare", path, "-o", out, "--target", "linux")
    assert absent.code == 2
    assert f"has left no {out / '1-train' / 'tiny.safetensors'}" in absent.err
    how = ("--target", "linux", "--precision", "fp32", "--runs", 2)
    found = edgekit("compare", path, "-o", out, *name, *how)
    assert found.code == 0, found.err
    assert "tiny-squeezenet1_1 for linux (onnx)" in found.out


def test_seeds_are_told_with_mean_and_deviation(
    edgekit: Callable[..., Ended], recipe: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("-o", out, "--model", "shufflenet_v2_x0_5", "--argument", "dropout=0.2")
    ended = edgekit("train", recipe(3), *options, "--epochs", 1, "--seeds", 2, "--seed", 5)
    assert ended.code == 0
    head, row, first, second = ended.out.splitlines()
    assert [word for word in head.split() if word.isdigit()] == ["5", "6"]
    assert row.count("%") == 4
    assert first == str(out / "seed-5" / "1-train" / "tiny-shufflenet_v2_x0_5.safetensors")
    assert Path(second).exists()
    card = Path(first).with_suffix(".json").read_text()
    assert "# --epochs 1" in card
    assert "# --model shufflenet_v2_x0_5" in card
    assert "epoch 1/1" in ended.err
    again = edgekit("train", recipe(3), *options, "--epochs", 1, "--seeds", 2, "--seed", 5)
    assert again.out == ended.out
    assert "epoch" not in again.err


def test_a_checkpoint_is_what_it_begins_with(
    edgekit: Callable[..., Ended], recipe: Callable[..., Path], tmp_path: Path
) -> None:
    first = Path(edgekit("train", recipe(), "-o", tmp_path / "a").out.splitlines()[-1])
    ended = edgekit("train", recipe(rate=1e-9), "-o", tmp_path / "b", "--from", first)
    assert ended.code == 0
    from edgekit import checkpoint

    old = checkpoint.read(first).tensors
    new = checkpoint.read(tmp_path / "b" / "1-train" / "tiny.safetensors").tensors
    name = "features.1.conv.0.0.weight"
    np.testing.assert_allclose(new[name], old[name], atol=1e-6)


def test_a_learning_rate_is_suggested_and_nothing_is_trained(
    edgekit: Callable[..., Ended], recipe: Callable[..., Path], tmp_path: Path
) -> None:
    ended = edgekit("train", recipe(), "-o", tmp_path / "out", "--find-learning-rate")
    assert ended.code == 0
    assert ended.out.startswith("learning_rate = ")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "learning-rate.csv",
        "learning-rate.svg",
    ]


def test_what_cannot_be_learned_by_heart_fails_the_check(
    edgekit: Callable[..., Ended],
    recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from edgekit.learn.train import overfit

    monkeypatch.setattr(overfit, "STEPS", 10)
    out = tmp_path / "out"
    ended = edgekit("train", recipe(rate=1e-9), "-o", out, "--overfit-one-batch")
    assert ended.code == 1
    assert "NOT learned by heart" in ended.err
    assert not list(out.glob("*/*"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--model", "mobilenet_v9"), "no architecture 'mobilenet_v9'"),
        (("--argument", "width"), "'width' is not NAME=VALUE"),
        (("--from", "nothing.safetensors"), "no checkpoint at nothing.safetensors"),
        (("--device", "tpu"), "no device 'tpu'"),
    ],
)
def test_a_wrong_option_is_one_line(
    edgekit: Callable[..., Ended],
    recipe: Callable[..., Path],
    tmp_path: Path,
    options: tuple[str, ...],
    said: str,
) -> None:
    ended = edgekit("train", recipe(), "-o", tmp_path / "out", *options)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.splitlines()[-1].startswith("error: ")


def test_help_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("train", "distill", "prune", "quantize"):
        assert main([verb, "--help"]) == 0
        shown = capsys.readouterr().out
        for option in ("RECIPE", "--data", "--from", "--seeds", "--find-learning-rate"):
            assert option in shown


def test_a_recipe_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distill", str(tmp_path / "absent.toml")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: cannot read ")
    assert captured.err.count("\n") == 1


def test_a_recipe_without_such_a_step_is_one_line(
    edgekit: Callable[..., Ended], recipe: Callable[..., Path], tmp_path: Path
) -> None:
    ended = edgekit("prune", recipe(), "-o", tmp_path / "out")
    assert ended.code == 2
    assert "has no step of kind 'prune'; its steps are: train" in ended.err
    assert not (tmp_path / "out").exists()


def test_data_that_is_not_there_is_one_line(
    edgekit: Callable[..., Ended], recipe: Callable[..., Path], tmp_path: Path
) -> None:
    ended = edgekit("train", recipe(), "--data", tmp_path / "no.zip", "-o", tmp_path / "out")
    assert ended.code == 2
    assert str(tmp_path / "no.zip") in ended.err
    assert not (tmp_path / "out").exists()


def test_a_missing_torch_is_named_with_its_extra(root: Path, recipe: Callable[..., Path]) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from edgekit.cli.main import main\n"
        f"sys.exit(main(['train', {str(recipe())!r}]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 3
    assert "training needs the package 'torch'" in ended.stderr
    assert "edgekit[host]" in ended.stderr
    assert "Traceback" not in ended.stderr
