"""How far long work is, on a terminal and in a log."""

import io
import sys
import time

import pytest

from edgekit.cli.watch import watching


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    with watching() as watch:
        watch.step("student", 1, 4, "loss 2.5")
        watch.line("epoch 1/2, top-1 [0.5]")
        watch.step("student", 3, 4, "loss [1.5]")
    assert "epoch 1/2, top-1 [0.5]" in shown.getvalue()
    assert ("75%" in shown.getvalue()) == terminal
    assert ("loss [1.5]" in shown.getvalue()) == terminal


def test_a_log_says_now_and_then_how_long_it_takes(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with watching() as watch:
        for step in range(1, 100):
            clock[0] += 10
            watch.step("fit", step, 1000, "loss 1.0")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 16
    assert lines[0] == "fit: 7/1000, 2 h 46 min left, loss 1.0"


def test_a_task_that_begins_again_is_timed_anew(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with watching() as watch:
        for _ in range(2):  # seeds
            for step in range(1, 101):
                clock[0] += 10
                watch.step("fit", step, 100)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 32
    assert lines[:16] == lines[16:]


def test_a_bar_goes_back_to_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with watching() as watch:
        watch.step("fit", 4, 4)
        watch.step("fit", 1, 4)
    assert "25%" in shown.getvalue()
