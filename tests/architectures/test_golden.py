"""Published weights in our networks give the logits that others computed with them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.lower.load import load_network

# The pairs' inputs go into the network as they are (noise from 0 to 255, not normalised).
# MobileNetV2's classifier here is a dequantised int8 one, hence the wide tolerance.
CASES = [
    ("mobilenet_v2", "mobilenet_v2_imagenet", 0.8),
    ("squeezenet1_1", "squeezenet1_1_imagenet", 1.5e-4),
]


@pytest.mark.parametrize(("name", "weights", "tolerance"), CASES)
def test_golden_pairs_are_reproduced(
    shared: Path, name: str, weights: str, tolerance: float
) -> None:
    network = load_network(name, str(shared / "weights" / f"{weights}.safetensors"))
    pairs = sorted((shared / "weights" / "golden").glob(f"{name}_*.npz"))
    assert len(pairs) == 3
    for path in pairs:
        with np.load(path) as pair, torch.inference_mode():
            logits = network.module(torch.from_numpy(pair["input"])).numpy()
            assert np.abs(logits - pair["output"]).max() <= tolerance
            assert logits.argmax() == pair["output"].argmax()


@pytest.mark.parametrize(("name", "weights", "tolerance"), CASES)
def test_the_golden_check_would_see_swapped_channels(
    shared: Path, name: str, weights: str, tolerance: float
) -> None:
    network = load_network(name, str(shared / "weights" / f"{weights}.safetensors"))
    with (
        np.load(shared / "weights" / "golden" / f"{name}_0.npz") as pair,
        torch.inference_mode(),
    ):
        swapped = torch.from_numpy(pair["input"][:, ::-1].copy())
        assert np.abs(network.module(swapped).numpy() - pair["output"]).max() > tolerance
