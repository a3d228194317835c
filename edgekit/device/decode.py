"""From a model's outputs to answers for people."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.errors import CheckFailed, SpecError


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer of a classifier."""

    index: int
    """Of the class, from 0."""
    label: str
    probability: float
    """In [0, 1]; over all classes they sum to 1."""


_FEW = 16
"""Answers that are looked for one by one."""


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of `logits` over the last axis.

    Args:
        logits: (..., classes), any real type.

    Returns:
        (..., classes) float64 in [0, 1], summing to 1; large logits do not overflow.
    """
    exact = logits.astype(np.float64)
    exponents = np.exp(exact - exact.max(axis=-1, keepdims=True))
    total: np.ndarray = exponents.sum(axis=-1, keepdims=True)
    return np.asarray(exponents / total)


def top_k(logits: np.ndarray, labels: Sequence[str], k: int) -> tuple[Prediction, ...]:
    """The `k` most probable classes, most probable first; of equals, the lower index first.

    `top_k(np.array([[0.0, 2.0]]), ("cat", "dog"), 1)` is `(Prediction(1, "dog", 0.8807...),)`.

    Args:
        logits: (classes,) or (1, classes), real numbers.
        labels: one per class.
        k: at least 1; more than there are classes gives them all.

    Raises:
        SpecError: `logits` does not have one value per label, or `k` is below 1.
        CheckFailed: `logits` holds NaN or infinity: the model is broken.
    """
    flat = logits.reshape(-1).astype(np.float64)  # an unsigned type could not be negated below
    if flat.size != len(labels) or logits.shape[-1] != flat.size:
        raise SpecError(f"{len(labels)} labels need (1, {len(labels)}) logits, got {logits.shape}")
    if k < 1:
        raise SpecError(f"the number of answers must be at least 1, got {k}")
    if not np.isfinite(flat).all():
        raise CheckFailed("the model's output holds NaN or infinity; run `edgekit verify` on it")
    best = _best(flat, k) if k <= _FEW else np.argsort(-flat, kind="stable")[:k].tolist()
    probabilities = softmax(flat)
    return tuple(Prediction(i, labels[i], float(probabilities[i])) for i in best)


def _best(values: np.ndarray, k: int) -> list[int]:
    """Where the `k` highest are; of equals the first. Faster than sorting for a few of many."""
    left = values.copy()
    found = []
    for _ in range(min(k, left.size)):
        place = int(left.argmax())
        found.append(place)
        left[place] = -np.inf
    return found
