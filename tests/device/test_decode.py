import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekit.device.decode import Prediction, softmax, top_k
from edgekit.errors import CheckFailed, SpecError


@given(arrays(np.float64, (2, 5), elements=st.floats(-1e300, 1e300)))
def test_softmax_is_a_distribution_whatever_comes(logits: np.ndarray) -> None:
    probabilities = softmax(logits)
    np.testing.assert_allclose(probabilities.sum(-1), 1.0)
    assert (probabilities >= 0).all()
    assert probabilities.dtype == np.float64


def test_softmax_worked_out() -> None:
    np.testing.assert_allclose(softmax(np.log([1.0, 2.0, 5.0])), [0.125, 0.25, 0.625])


def test_top_k_worked_out() -> None:
    answers = top_k(np.log(np.array([[1.0, 5.0, 2.0]])), ("a", "b", "c"), 2)
    assert [(p.index, p.label) for p in answers] == [(1, "b"), (2, "c")]
    assert answers[0].probability == pytest.approx(0.625)


def test_of_equals_the_lower_index_is_first() -> None:
    answers = top_k(np.zeros(3, np.float32), ("a", "b", "c"), 9)
    assert answers == tuple(Prediction(i, "abc"[i], 1 / 3) for i in range(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_broken_output_is_an_error(bad: float) -> None:
    with pytest.raises(CheckFailed, match="NaN or infinity"):
        top_k(np.array([0.0, bad]), ("a", "b"), 1)


@pytest.mark.parametrize("shape", [(3,), (2, 2), (2, 1), (1, 3)])
def test_logits_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, match="2 labels need"):
        top_k(np.zeros(shape), ("a", "b"), 1)


def test_no_answers_wanted() -> None:
    with pytest.raises(SpecError, match="at least 1, got 0"):
        top_k(np.zeros(2), ("a", "b"), 0)


@given(
    arrays(np.float32, 40, elements=st.sampled_from([-3.0, 0.0, 0.5, 2.0, 1e30])),
    st.integers(1, 45),
)
def test_the_best_are_those_that_sorting_gives(logits: np.ndarray, k: int) -> None:
    labels = [str(n) for n in range(40)]
    wanted = np.argsort(-logits, kind="stable")[:k].tolist()
    answers = top_k(logits, labels, k)
    assert [p.index for p in answers] == wanted
    np.testing.assert_allclose([p.probability for p in answers], softmax(logits)[wanted])
