from collections.abc import Sequence

import numpy as np
import pytest
from torch import Tensor, nn

from edgekit.errors import EdgekitError, ParityError
from edgekit.lower.gate import parity
from edgekit.lower.gate.taps import LayerSnr
from edgekit.manifest import Hop, Tolerance
from edgekit.spec import Precision

ALLOWED = Tolerance(max_abs_error=0.5, snr_db=20.0, top1_agreement=0.9)


def logits(rows: int = 20) -> np.ndarray:
    found: np.ndarray = np.random.default_rng(0).normal(0, 3, (rows, 5)).astype(np.float32)
    return found


def nowhere() -> list[LayerSnr]:
    raise AssertionError("a hop that holds is not searched")


def test_a_hop_that_holds_is_recorded() -> None:
    expected = logits()
    hop = parity.check_hop("a -> b", expected, expected + np.float32(0.01), ALLOWED, nowhere)
    assert (hop.name, hop.images, hop.top1_agreement, hop.tolerance) == ("a -> b", 20, 1.0, ALLOWED)
    assert hop.max_abs_error == pytest.approx(0.01, rel=0.01)
    power = float((expected.astype(np.float64) ** 2).mean())
    assert hop.snr_db == pytest.approx(10 * np.log10(power / 1e-4), abs=0.06)


def test_equal_logits_have_a_finite_snr() -> None:
    hop = parity.check_hop("a -> b", logits(), logits(), ALLOWED, nowhere)
    assert (hop.max_abs_error, hop.snr_db, hop.top1_agreement) == (0.0, 200.0, 1.0)


def one_value_off(found: np.ndarray) -> None:
    found[3, found[3].argmin()] -= 0.6  # neither the SNR nor an answer


def all_a_little_off(found: np.ndarray) -> None:
    found -= np.sign(found) * 0.4  # neither a large error nor an answer


def answers_changed(found: np.ndarray) -> None:
    found[:4] = found[:4, [1, 0, 2, 3, 4]]  # the first two are near each other


def close_calls() -> np.ndarray:
    expected = logits()
    expected[:, 0] = np.abs(expected).max(axis=1) + 1.0
    expected[:, 1] = expected[:, 0] - 0.1
    return expected


@pytest.mark.parametrize(
    ("fault", "broken"),
    [(one_value_off, "max"), (all_a_little_off, "snr"), (answers_changed, "top1")],
    ids=["max error", "SNR", "top-1"],
)
def test_each_figure_is_held_on_its_own(fault: object, broken: str) -> None:
    expected = close_calls()
    found = expected.copy()
    assert callable(fault)
    fault(found)
    loose = {"max": (0.7, 20.0, 0.9), "snr": (0.5, 10.0, 0.9), "top1": (0.5, 20.0, 0.5)}[broken]
    tight = (0.5, 20.0, 0.9)
    if broken == "snr":
        tight = (0.5, 25.0, 0.9)
    parity.check_hop("a -> b", expected, found, Tolerance(*loose), nowhere)
    with pytest.raises(ParityError):
        parity.check_hop("a -> b", expected, found, Tolerance(*tight), lambda: [])


def test_a_breach_names_the_hop_the_layer_and_the_figures() -> None:
    expected = logits()
    found = expected.copy()
    found[0] = -found[0]
    largest = 2 * np.abs(expected[0]).max()
    with pytest.raises(ParityError) as caught:
        parity.check_hop(
            "exported -> lowered",
            expected,
            found,
            ALLOWED,
            lambda: [
                LayerSnr("stem", 99.0, 0.0),
                LayerSnr("network.features.3 (conv)", 4.04, 1.25),
            ],
        )
    message = str(caught.value)
    assert "the hop 'exported -> lowered' fails" in message
    assert f"max error {largest:.3g} (at most 0.5)" in message
    assert "dB (at least 20)" in message
    assert "top-1 agreement 95% (at least 90%)" in message
    assert "first diverging layer: network.features.3 (conv): SNR 4.0 dB, max error 1.25" in message
    assert message.endswith("no bundle was written")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(value: float) -> None:
    found = logits()
    found[7, 2] = value
    with pytest.raises(ParityError, match="SNR -200.0 dB"):
        parity.check_hop("a -> b", logits(), found, ALLOWED, lambda: [])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_gives_nan_itself_is_refused(value: float) -> None:
    """NaN on both sides is no agreement, and NaN before a hop is no tolerance."""
    both = logits()
    both[7, 2] = value
    for found in (both, logits()):
        with pytest.raises(ParityError):
            parity.check_hop(
                "a -> b", both, found, parity.tolerance(parity.EXACT, both), lambda: []
            )


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ParityError):
        parity.check_hop("a -> b", logits(), logits()[:, :4], ALLOWED, lambda: [])
    with pytest.raises(ParityError):
        parity.check_hop("a -> b", logits(), logits(19), ALLOWED, lambda: [])


def test_all_zero_logits_are_no_agreement() -> None:
    with pytest.raises(ParityError):
        parity.check_hop("a -> b", logits(), np.zeros_like(logits()), ALLOWED, lambda: [])


def test_where_no_layer_can_be_found_the_breach_still_says_so() -> None:
    def fails() -> list[LayerSnr]:
        raise EdgekitError("cannot lower the taps")

    found = -logits()
    with pytest.raises(ParityError, match="the layer could not be found: cannot lower the taps"):
        parity.check_hop("a -> b", logits(), found, ALLOWED, fails)
    with pytest.raises(ParityError, match="no single layer diverges alone"):
        parity.check_hop("a -> b", logits(), found, ALLOWED, lambda: [])


def test_a_tolerance_is_relative_to_the_largest_logit() -> None:
    found = parity.tolerance((0.05, 30.0, 0.95), np.array([[1.0, -12.345], [3.0, 2.0]]))
    assert found == Tolerance(0.617, 30.0, 0.95)


def test_the_tolerances_tighten_with_the_precision() -> None:
    fp32, fp16, int8 = (parity.LOWERED[p] for p in ("fp32", "fp16", "int8"))
    assert parity.EXACT[1] > fp32[1] > fp16[1] > int8[1] >= 10
    assert parity.EXACT[0] < fp32[0] < fp16[0] < int8[0]
    assert parity.EXACT[2] == 1.0


def hop(snr_db: float) -> Hop:
    return Hop("exported -> quantised", 48, 0.1, snr_db, 1.0, ALLOWED)


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_only_a_trained_networks_answers_count(precision: Precision, trained: bool) -> None:
    """Logits are compared as closely as ever."""
    for limits in (parity.EXACT, parity.QUANTISED, parity.LOWERED[precision]):
        expected = limits if trained else (*limits[:2], 0.0)
        assert parity.judged(limits, trained) == expected
    assert parity.lowered_limits(precision, None, trained) == expected
    assert parity.lowered_limits(precision, None) == parity.LOWERED[precision]


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize(("quantised", "least"), [(30.0, 24.0), (17.0, 12.0), (10.0, 12.0)])
def test_int8_is_held_to_the_networks_own_figure(
    quantised: float, least: float, trained: bool
) -> None:
    relative, _, agreement = parity.LOWERED["int8"]
    expected = (relative, least, agreement if trained else 0.0)
    assert parity.lowered_limits("int8", hop(quantised), trained) == expected


def test_unrelated_logits_are_refused_of_an_untrained_network_too() -> None:
    expected, other = logits(), logits(40)[20:]
    allowed = parity.tolerance(parity.judged(parity.QUANTISED, trained=False), expected)
    for found in (other, -expected, expected[:, ::-1], 3 * expected):
        with pytest.raises(ParityError, match="SNR"):
            parity.check_hop("a -> b", expected, found, allowed, lambda: [])


class Halves(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.float().mean(dim=(1, 2)) / 2


def test_a_module_is_run_image_by_image() -> None:
    inputs = [np.full((1, 4, 5, 3), value, np.uint8) for value in (10, 30)]
    found = parity.run_module(Halves(), inputs)
    np.testing.assert_array_equal(found, [[5, 5, 5], [15, 15, 15]])


def probe(real: int) -> parity.Probe:
    image = np.zeros((1, 2, 2, 3), np.uint8)
    return parity.Probe([image] * real, {"black": image, "checker": image})


def test_the_edge_set_is_held_apart_from_the_real_images() -> None:
    expected = logits(12)
    found = expected.copy()
    found[11] *= 1.01  # 40 dB off, of the last generated image alone
    limits = (parity.QUANTISED, (1.0, 30.0, 1.0))
    hop = parity.hold("a -> b", probe(10), expected, found, *limits, lambda _inputs: nowhere())
    assert (hop.images, hop.snr_db) == (10, 200.0)
    assert hop.edges is not None
    assert (hop.edges.images, hop.edges.tolerance.top1_agreement) == (2, 0.0)
    assert 40 <= hop.edges.snr_db < 50


def test_a_breach_on_the_edge_set_names_the_worst_image_and_carries_the_layers() -> None:
    expected = logits(12)
    found = expected.copy()
    found[11] *= -1
    layers = [LayerSnr("stem", 40.0, 0.1), LayerSnr("head", 8.0, 0.2), LayerSnr("last", 7.0, 0.2)]
    seen: list[int] = []

    def compare(inputs: Sequence[np.ndarray]) -> list[LayerSnr]:
        seen.append(len(inputs))
        return layers

    limits = (parity.EXACT, (1.0, 5.0, 1.0))
    with pytest.raises(parity.HopError) as caught:
        parity.hold("a -> b", probe(10), expected, found, *limits, compare)
    message = str(caught.value)
    assert "the hop 'a -> b' fails on generated images (worst: checker): SNR" in message
    assert "no single layer diverges alone; the largest fall is at head: SNR 8.0 dB" in message
    assert (caught.value.hop, caught.value.layers, seen) == ("a -> b", tuple(layers), [2])


def test_the_worst_rows_come_first() -> None:
    expected = logits(6)
    found = expected.copy()
    for row, factor in ((4, 0.5), (1, 0.9), (2, 0.99)):
        found[row] *= factor
    assert parity.worst(expected, found)[:3] == [4, 1, 2]
    assert len(parity.worst(expected, found)) == parity.FEW
