"""A teacher's answers on disk: asked once, read by any number of runs.

One record an image, in the images' order: its views' answers, (views, classes) float16, and eight
bytes of a keyed BLAKE2b over them. The records are written one after the other into `NAME.part`,
which becomes `NAME` when it is whole. Whoever is interrupted goes on after the last good record.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import numpy as np

from edgekit.errors import CheckpointError, SpecError, StorageError
from edgekit.learn.watch import Watch

try:
    import fcntl
except ImportError:  # Windows: then two runs at a time do the same work twice
    fcntl = None  # type: ignore[assignment]

_DIGEST = 8


@dataclass(frozen=True, slots=True)
class Answers:
    """A file of answers: which it is, and what it must hold."""

    path: Path
    key: bytes
    """32 bytes: a digest of all that the answers depend on."""
    images: int
    views: int
    classes: int

    @property
    def record(self) -> np.dtype:
        return np.dtype([("logits", "<f2", (self.views, self.classes)), ("digest", "u1", _DIGEST)])


Ask = Callable[[int], Iterator[np.ndarray]]
"""The answers from this image on, some images at a time: (n, views, classes) float32 logits."""


def stored(answers: Answers, ask: Ask, watch: Watch, task: str) -> np.ndarray:
    """The answers, asked for where they are not there yet.

    Args:
        answers: the file.
        ask: the teacher, about all views of each image.
        watch: told how far it is.
        task: how it is called there.

    Returns:
        (images, views, classes) float16, mapped, read-only. The largest of each answer is 0: the
        shift changes no probability, and float16 is finest there.

    Raises:
        CheckpointError: the file is damaged.
        SpecError: the teacher answers with what is no number.
        StorageError: the file cannot be written.
    """
    part = answers.path.with_name(f"{answers.path.name}.part")
    try:
        if not answers.path.exists():
            answers.path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "ab+") as file, _alone(file, part, watch):
                if not answers.path.exists():  # another run may have made it meanwhile
                    _fill(part, file, answers, ask, watch, task)
                    part.replace(answers.path)
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError.from_os(error, part) from error
    return _read(answers)


def _fill(part: Path, file: BinaryIO, answers: Answers, ask: Ask, watch: Watch, task: str) -> None:
    done = _good(_mapped(part, answers), answers)
    file.truncate(done * answers.record.itemsize)  # a torn record, and what follows a bad one
    if done < answers.images:
        for logits in ask(done):
            file.write(_records(logits, done, answers).tobytes())
            file.flush()
            done += len(logits)
            watch.step(task, done, answers.images)
    assert done == answers.images
    os.fsync(file.fileno())


def _records(logits: np.ndarray, first: int, answers: Answers) -> np.ndarray:
    """(n, views, classes) float32 -> n records, the first of them of image `first`."""
    if not np.isfinite(logits).all():
        raise SpecError(
            f"the teacher's answers for {answers.path.name} are not all numbers; does it take "
            "images like these, normalised as it is told?"
        )
    made = np.zeros(len(logits), answers.record)
    made["logits"] = np.maximum(logits - logits.max(2, keepdims=True), np.finfo(np.float16).min)
    for n, record in enumerate(made):
        record["digest"] = _digest(record["logits"], first + n, answers)
    return made


def _digest(logits: np.ndarray, image: int, answers: Answers) -> np.ndarray:
    salt = image.to_bytes(8, "little")
    content = np.ascontiguousarray(logits).data
    return np.frombuffer(
        blake2b(content, digest_size=_DIGEST, key=answers.key, salt=salt).digest(), np.uint8
    )


def _good(records: np.ndarray, answers: Answers) -> int:
    """How many records are good, up to the first one that is not."""
    for n, record in enumerate(records):
        if not np.array_equal(record["digest"], _digest(record["logits"], n, answers)):
            return n
    return len(records)


def _mapped(path: Path, answers: Answers) -> np.ndarray:
    """The whole records in a file, (n,), mapped read-only."""
    count = path.stat().st_size // answers.record.itemsize
    if not count:
        return np.empty(0, answers.record)
    return np.asarray(np.memmap(path, answers.record, "r", shape=(count,)))


def _read(answers: Answers) -> np.ndarray:
    """Map the file and check each record."""
    wanted = answers.images * answers.record.itemsize
    try:
        found, records = answers.path.stat().st_size, _mapped(answers.path, answers)
    except OSError as error:
        raise CheckpointError(f"cannot read {answers.path}: {error.strerror}") from error
    good = _good(records, answers)
    if found != wanted or good < answers.images:
        wrong = f"{found} bytes, not {wanted}" if found != wanted else f"image {good}'s are not"
        raise CheckpointError(
            f"the teacher's answers {answers.path} are not what was written ({wrong}); "
            "remove that file to have the teacher asked again"
        )
    logits: np.ndarray = records["logits"]
    return logits


@contextmanager
def _alone(file: BinaryIO, path: Path, watch: Watch) -> Iterator[None]:
    """While the block lasts, no other run writes `path`; the lock goes with the process."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            watch.line(f"waiting for another run that asks the same teacher: {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
    yield
