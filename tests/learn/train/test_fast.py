"""Ways to run a network while it learns: the numbers stay, the memory falls."""

import pytest
import torch
from torch import nn

from edgekit.errors import SpecError
from edgekit.learn.recipe.fit import Fit
from edgekit.learn.train.fast import blocks, plain, prepared, recomputing
from edgekit.learn.train.place import HERE
from edgekit.plugins import architecture
from tests.learn.train.conftest import small_net


def step(module: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor], int]:
    """Gradients, buffers, and bytes that were kept for the gradient."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(7)
    x = torch.randn(8, 3, 32, 32)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = module.train()(x).square().sum()
    loss.backward()
    gradients = [p.grad.clone() for p in module.parameters() if p.grad is not None]
    return gradients, [b.clone() for b in module.buffers()], sum(kept.values())


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_recomputing_gives_the_same_gradients_and_keeps_less(name: str) -> None:
    torch.manual_seed(0)
    module = architecture(name)(num_classes=3, dropout=0.3)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    gradients, buffers, most = step(module)
    module.load_state_dict(before)
    module.zero_grad()
    with recomputing(module):
        found, after, least = step(module)
    torch.testing.assert_close(found, gradients, rtol=0, atol=0)
    torch.testing.assert_close(after, buffers, rtol=0, atol=0)
    assert least < 0.6 * most
    assert all("forward" not in vars(part) for part in module.modules())


def test_blocks_are_found_in_a_network_in_a_network() -> None:
    class Wrapper(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inner(x)
            return found

    module = Wrapper(architecture("shufflenet_v2_x0_5")(num_classes=3))
    assert len(list(blocks(module))) == 1
    with recomputing(module):
        changed = [name for name, part in module.named_modules() if "forward" in vars(part)]
    assert len(changed) > 10


@pytest.mark.slow
@pytest.mark.skipif(" " in torch.__file__, reason="torch's compiler does not take such a path")
@pytest.mark.filterwarnings("ignore")  # of torch's compiler
def test_a_compiled_network_learns_the_same_under_the_same_names() -> None:
    module = small_net()
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0  # a compiled one draws other numbers
    before = {key: value.clone() for key, value in module.state_dict().items()}
    gradients, buffers, _ = step(module)
    module.load_state_dict(before)
    module.zero_grad()
    with prepared(module, Fit(0.1, epochs=1, compile=True), HERE):
        assert list(module.state_dict()) == list(before)
        found, after, _ = step(module)
        with plain(module):
            assert module._compiled_call_impl is None
        assert module._compiled_call_impl is not None
    assert module._compiled_call_impl is None
    torch.testing.assert_close(found, gradients, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after, buffers, rtol=1e-4, atol=1e-4)


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with (
        pytest.raises(SpecError, match="no C\\+\\+ compiler"),
        prepared(small_net(), Fit(0.1, epochs=1, compile=True), HERE),
    ):
        pass


def test_a_folder_that_the_compiler_cannot_link_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__file__", "/my projects/torch/__init__.py")
    with (
        pytest.raises(SpecError, match=r"PyTorch lies in /my projects/torch, .* with a space"),
        prepared(small_net(), Fit(0.1, epochs=1, compile=True), HERE),
    ):
        pass
