"""Which weights go."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgekit.learn.prune.rank import equal_shares, largest, n_of_m, shuffled

WEIGHTS = {"a": torch.tensor([[1.0, -5.0], [3.0, 0.5]]), "b": torch.tensor([-2.0, 4.0, 0.1, 6.0])}


def test_of_all_weights_together_the_smallest_go() -> None:
    masks = largest(WEIGHTS, 0.5, True, {})
    assert masks["a"].tolist() == [[False, True], [True, False]]
    assert masks["b"].tolist() == [False, True, False, True]


def test_of_each_layer_its_own_smallest_go() -> None:
    masks = largest(WEIGHTS, 0.25, False, {})
    assert masks["a"].tolist() == [[False, True], [False, False]]
    assert masks["b"].tolist() == [False, False, False, True]


def test_what_is_gone_stays_gone_even_where_the_weight_has_grown() -> None:
    before = {"a": torch.tensor([[True, False], [True, True]]), "b": torch.ones(4).bool()}
    masks = largest(WEIGHTS, 0.75, True, before)
    assert masks["a"].tolist() == [[True, False], [True, True]]
    assert masks["b"].tolist() == [True, True, False, True]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(1, 99),
    st.booleans(),
)
def test_the_number_of_zeros_is_exact_even_among_equal_weights(
    counts: list[int], percent: int, whole: bool
) -> None:
    weights = {str(n): torch.ones(count) for n, count in enumerate(counts)}
    masks = largest(weights, 1 - percent / 100, whole, {})
    gone = [int((~masks[name]).sum()) for name in weights]
    share = 1 - (1 - percent / 100)
    if whole:
        assert sum(gone) == round(share * sum(counts))
    else:
        assert gone == [round(share * count) for count in counts]


def test_each_round_takes_the_same_share_of_what_is_left() -> None:
    left = equal_shares(0.9, 3)
    assert left[-1] == pytest.approx(0.1)
    assert left[0] == pytest.approx(left[1] / left[0]) == pytest.approx(left[2] / left[1])


def test_two_of_four_stay_along_the_input_channels_at_each_place_of_the_filter() -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 8, 3, 3)
    masks, dense = n_of_m({"w": weight}, 2, 4)
    stays = masks["w"]
    assert not dense
    assert stays.shape == weight.shape
    for group in (slice(0, 4), slice(4, 8)):
        assert (stays[:, group].sum(dim=1) == 2).all()
        kept = weight[:, group].abs().where(stays[:, group], torch.inf).amin(dim=1)
        lost = weight[:, group].abs().where(~stays[:, group], -torch.inf).amax(dim=1)
        assert (kept >= lost).all()


def test_of_a_matrix_the_inputs_are_grouped() -> None:
    masks, _ = n_of_m({"w": torch.tensor([[1.0, 2, 3, 4], [8, 7, 6, 5]])}, 1, 4)
    assert masks["w"].tolist() == [[False, False, False, True], [True, False, False, False]]


def test_exactly_n_stay_among_equal_weights() -> None:
    masks, _ = n_of_m({"w": torch.ones(3, 8)}, 2, 4)
    assert (masks["w"].view(3, 2, 4).sum(-1) == 2).all()


def test_layers_of_other_widths_stay_dense_and_are_named() -> None:
    weights = {"a": torch.randn(4, 6, 1, 1), "b": torch.randn(4, 8, 1, 1)}
    masks, dense = n_of_m(weights, 2, 4)
    assert list(masks) == ["b"]
    assert dense == ["a"]


def test_a_shuffled_mask_has_as_many_weights_and_is_a_function_of_the_seed() -> None:
    masks = {"a": torch.arange(60).view(3, 20) < 12}
    one, same, other = (shuffled(masks, seed)["a"] for seed in (1, 1, 2))
    assert one.sum() == 12
    assert one.shape == (3, 20)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
