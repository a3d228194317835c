"""Folded weights get their batch norm back, and answer as before."""

import copy

import pytest
import torch

from edgekit.learn.unfold import unfold
from edgekit.lower.load import build_network
from edgekit.lower.network import fold_batch_norm, folds


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x0_5", "ghostnet_050"])
def test_the_answers_stay_and_batch_norm_normalises(name: str) -> None:
    torch.manual_seed(0)
    trained = build_network(name, {"num_classes": 3})
    for _ in range(20):  # statistics that are not those of fresh batch norm
        trained.train()(torch.randn(4, 3, 64, 64))
    folded = fold_batch_norm(copy.deepcopy(trained).eval())
    inputs = [torch.randn(8, 3, 64, 64) for _ in range(2)]
    found = unfold(build_network(name, {"num_classes": 3}), folded, inputs)
    with torch.inference_mode():
        torch.testing.assert_close(found(inputs[0]), folded(inputs[0]), rtol=1e-3, atol=1e-4)
    conv, norm = folds(found)[0]
    seen = []
    found.get_submodule(conv).register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.inference_mode():
        for batch in inputs:
            found(batch)
    values = torch.cat(seen).double()
    state = found.get_submodule(norm).state_dict()
    torch.testing.assert_close(
        state["running_mean"].double(), values.mean((0, 2, 3)), rtol=1e-4, atol=1e-5
    )
    variance = values.var((0, 2, 3), unbiased=False)
    torch.testing.assert_close(state["running_var"].double(), variance, rtol=1e-4, atol=1e-6)
