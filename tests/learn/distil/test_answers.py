"""Stored answers: written once, gone on with, refused where they are damaged."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import CheckpointError, SpecError, StorageError
from edgekit.learn.distil.answers import Answers, stored
from tests.learn.conftest import Silent

SHAPE = (10, 3, 4)
"""Images, views, classes."""


class Teacher:
    """Answers by a table, and counts what it is asked; may give up after some images."""

    def __init__(self, until: int = SHAPE[0]) -> None:
        self.table = np.random.default_rng(5).normal(0, 3, SHAPE).astype(np.float32)
        self.asked: list[int] = []
        self.until = until

    def __call__(self, first: int) -> Iterator[np.ndarray]:
        for start in range(first, len(self.table), 2):
            images = range(start, min(start + 2, len(self.table)))
            if images[-1] >= self.until:
                raise KeyboardInterrupt
            self.asked += images
            yield self.table[images]


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    return Answers(tmp_path / "answers" / "big.answers", b"k" * 32, *SHAPE)


@pytest.fixture
def ask(answers: Answers, watch: Silent) -> Callable[..., np.ndarray]:
    def ask(teacher: Teacher, which: Answers = answers) -> np.ndarray:
        return stored(which, teacher, watch, "asking")

    return ask


def part(answers: Answers) -> Path:
    return answers.path.with_name(f"{answers.path.name}.part")


def test_what_is_stored_is_what_was_said(ask: Callable[..., np.ndarray], answers: Answers) -> None:
    teacher = Teacher()
    found = ask(teacher)
    wanted = teacher.table - teacher.table.max(2, keepdims=True)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, wanted.astype(np.float16))
    assert teacher.asked == list(range(10))
    assert [path.name for path in answers.path.parent.iterdir()] == ["big.answers"]
    assert answers.path.stat().st_size == 10 * (3 * 4 * 2 + 8)


def test_they_are_asked_for_once(ask: Callable[..., np.ndarray]) -> None:
    first, again = Teacher(), Teacher()
    np.testing.assert_array_equal(ask(first), ask(again))
    assert again.asked == []


def test_an_interrupted_run_goes_on(ask: Callable[..., np.ndarray], answers: Answers) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(Teacher(until=5))
    assert not answers.path.exists()
    later = Teacher()
    found = ask(later)
    assert later.asked == list(range(4, 10))
    answers.path.unlink()
    np.testing.assert_array_equal(found, ask(Teacher()))


@pytest.mark.parametrize(("cut", "left"), [(0, 4), (1, 3), (33, 2), (10_000, 0)])
def test_a_torn_record_is_asked_for_again(
    ask: Callable[..., np.ndarray], answers: Answers, cut: int, left: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(Teacher(until=5))
    os.truncate(part(answers), max(part(answers).stat().st_size - cut, 0))
    later = Teacher()
    found = ask(later)
    assert later.asked == list(range(left, 10))
    answers.path.unlink()
    np.testing.assert_array_equal(found, ask(Teacher()))


def test_a_damaged_record_of_an_interrupted_run_is_asked_for_again(
    ask: Callable[..., np.ndarray], answers: Answers
) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(Teacher(until=7))
    content = bytearray(part(answers).read_bytes())
    content[2 * 32 + 5] ^= 1
    part(answers).write_bytes(content)
    later = Teacher()
    ask(later)
    assert later.asked == list(range(2, 10))


@pytest.mark.parametrize("at", [0, 31, 150, 319])
def test_damage_is_refused(ask: Callable[..., np.ndarray], answers: Answers, at: int) -> None:
    ask(Teacher())
    content = bytearray(answers.path.read_bytes())
    content[at] ^= 16
    answers.path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"image {at // 32}'s are not.*remove that file"):
        ask(Teacher())


def test_another_shape_or_length_is_refused(
    ask: Callable[..., np.ndarray], answers: Answers
) -> None:
    ask(Teacher())
    with pytest.raises(CheckpointError, match="320 bytes, not 640"):
        ask(Teacher(), replace(answers, images=20))
    with pytest.raises(CheckpointError, match="320 bytes, not 260"):
        ask(Teacher(), replace(answers, classes=3))
    answers.path.write_bytes(answers.path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=str(answers.path)):
        ask(Teacher())


def test_answers_of_another_key_are_refused(
    ask: Callable[..., np.ndarray], answers: Answers
) -> None:
    ask(Teacher())
    with pytest.raises(CheckpointError, match="image 0"):
        ask(Teacher(), replace(answers, key=b"K" * 32))


def test_what_is_no_number_is_refused(ask: Callable[..., np.ndarray]) -> None:
    teacher = Teacher()
    teacher.table[3, 1, 2] = np.nan
    with pytest.raises(SpecError, match="not all numbers"):
        ask(teacher)


def test_a_folder_that_cannot_be_written_is_told(
    ask: Callable[..., np.ndarray], answers: Answers
) -> None:
    answers.path.parent.write_text("a file stands there")
    with pytest.raises(StorageError, match="answers"):
        ask(Teacher())


def fill(answers: Answers, counts: "multiprocessing.Queue[int]") -> None:
    teacher = Teacher()
    stored(answers, teacher, Silent(), "asking")
    counts.put(len(teacher.asked))


def test_two_runs_at_a_time_ask_once(answers: Answers) -> None:
    context = multiprocessing.get_context("fork")
    counts: multiprocessing.Queue[int] = context.Queue()
    runs = [context.Process(target=fill, args=(answers, counts)) for _ in range(3)]
    for run in runs:
        run.start()
    found = sorted(counts.get(timeout=30) for _ in runs)
    for run in runs:
        run.join()
    assert found == [0, 0, 10]
