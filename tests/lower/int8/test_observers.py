import pytest
import torch
from torch import Tensor

from edgekit.lower.int8.observers import CLASSES, OUTSIDE, activation


def ranged(name: str, values: Tensor, scheme: str = "affine") -> tuple[float, float]:
    """Scale and zero point that an observer finds for `values`."""
    spec = activation(name, "affine" if scheme == "affine" else "symmetric")
    observer = spec.observer_or_fake_quant_ctr(
        dtype=torch.int8, qscheme=spec.qscheme, quant_min=-128, quant_max=127
    )
    for part in values.chunk(4):
        observer(part)
    scale, zero = observer.calculate_qparams()
    return float(scale), float(zero)


@pytest.fixture
def heavy() -> Tensor:
    """Normal, with a few values far away."""
    torch.manual_seed(0)
    values = torch.randn(100_000)
    values[::20_000] = 12.0
    return values[torch.randperm(len(values))]


def error(values: Tensor, scale: float, zero: float) -> float:
    integers = (values / scale + zero).round().clamp(-128, 127)
    return float(((integers - zero) * scale - values).square().mean())


@pytest.mark.parametrize("scheme", ["affine", "symmetric"])
def test_each_covers_what_its_name_says(heavy: Tensor, scheme: str) -> None:
    found = {name: ranged(name, heavy, scheme) for name in CLASSES}
    whole = float(heavy.max() - heavy.min()) if scheme == "affine" else 2 * float(heavy.max())
    assert found["minmax"][0] == pytest.approx(whole / 255, rel=0.01)
    ends = heavy.sort().values
    out = int(OUTSIDE * len(heavy))
    low, high = float(ends[out]), float(ends[-out - 1])
    width = high - low if scheme == "affine" else 2 * max(-low, high)
    assert found["percentile"][0] == pytest.approx(width / 255, rel=0.05)
    if scheme == "symmetric":
        assert {zero for _, zero in found.values()} == {0}


def test_mse_is_the_least_of_what_it_tries(heavy: Tensor) -> None:
    scale, zero = ranged("mse", heavy)
    least = error(heavy, scale, zero)
    assert least < 0.95 * error(heavy, *ranged("minmax", heavy))
    for share in (0.8, 1.25):
        assert error(heavy, share * scale, round(zero / share)) > 0.98 * least


@pytest.mark.parametrize("name", list(CLASSES))
def test_a_constant_tensor_has_a_scale(name: str) -> None:
    scale, zero = ranged(name, torch.zeros(4096))
    assert scale > 0
    assert zero == round(zero)
