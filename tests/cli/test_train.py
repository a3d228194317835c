"""`edgekit distill` as people call it."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.cli.main import main
from edgekit.cli.watch import watching


def test_help_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "RECIPE" in shown
    assert "--data" in shown
    assert "--teacher" in shown


def test_a_recipe_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distill", str(tmp_path / "absent.toml")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: cannot read ")
    assert captured.err.count("\n") == 1


def test_data_that_is_not_there_is_one_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = root / "recipes" / "mobilenet_v2-tiny50.toml"
    arguments = ["distill", str(recipe), "--data", str(tmp_path / "no.zip")]
    assert main([*arguments, "-o", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: cannot read the training data {tmp_path / 'no.zip'}")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_torch_is_named_with_its_extra(root: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from edgekit.cli.main import main\n"
        "sys.exit(main(['distill', 'recipes/mobilenet_v2-tiny50.toml']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 3
    assert "distilling needs the package 'torch'" in ended.stderr
    assert "edgekit[host]" in ended.stderr
    assert "Traceback" not in ended.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    shown = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    with watching() as watch:
        watch.step("student", 1, 4)
        watch.line("epoch 1/2, top-1 [0.5]")
        watch.step("student", 3, 4)
    assert "epoch 1/2, top-1 [0.5]" in shown.getvalue()
    assert ("75%" in shown.getvalue()) == terminal
