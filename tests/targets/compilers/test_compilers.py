"""What every backend's compiler must do, at every precision."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekit import files, plugins
from edgekit.device.golden import difference
from edgekit.errors import SpecError
from edgekit.lower import export
from edgekit.lower.network import Network
from edgekit.spec import Precision, TensorSpec

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
"""Integer weights alone: see tests/lower/test_weight_only.py."""
Lower = Callable[..., Any]
BACKENDS = plugins.backends()
SLOW = {"coreml", "executorch"}
"""Backends whose compilers take 10 s and more for each file."""
SNR = {"fp32": 80.0, "fp16": 40.0, "int8": 20.0}
"""dB against the torch program that was lowered."""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

every = pytest.mark.parametrize("precision", PRECISIONS)
both = pytest.mark.parametrize(
    "backend",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in BACKENDS],
)


def content(model: Path) -> bytes:
    """Of a file, or of all the files of a folder."""
    paths = [model] if model.is_file() else sorted(model.rglob("*"))
    return b"".join(path.read_bytes() for path in paths if path.is_file())


@every
@both
def test_camera_pixels_in_and_logits_out(lower: Lower, backend: str, precision: Precision) -> None:
    made = lower(backend, "squeezenet1_1", precision)
    assert made.session.inputs == (TensorSpec("image", (1, 64, 64, 3), "uint8"),)
    assert made.session.outputs == (TensorSpec("logits", (1, 7), "float32"),)


@every
@both
def test_the_file_computes_what_torch_does(
    lower: Lower, backend: str, precision: Precision
) -> None:
    made = lower(backend, "squeezenet1_1", precision)
    expected, found = made.expected(), made.found()
    assert expected.std(axis=0).max() > 0.02, "the network tells images apart"
    apart = difference(expected, found)
    assert apart.snr_db > SNR[precision]
    centred = difference(expected - expected.mean(axis=0), found - expected.mean(axis=0))
    assert centred.snr_db > SNR[precision] - 12, "also of what differs between images"


@pytest.mark.slow
@both
def test_int8_means_the_same_to_every_runtime(lower: Lower, backend: str) -> None:
    """Deep and untrained, so one integer of difference grows: right runtimes still agree."""
    found = lower(backend, "mobilenet_v2", "int8")
    assert difference(lower("onnx", "mobilenet_v2", "int8").found(), found.found()).snr_db > 20
    assert difference(found.expected(), found.found()).top1_agreement > 0.7


@both
def test_precision_pays_in_bytes(lower: Lower, backend: str) -> None:
    sizes = [files.size(lower(backend, "squeezenet1_1", p).model) for p in PRECISIONS]
    assert 0.45 < sizes[1] / sizes[0] < 0.6
    assert 0.22 < sizes[2] / sizes[0] < 0.4


@every
@both
def test_nothing_of_the_build_machine_is_in_the_file(
    lower: Lower, backend: str, precision: Precision, root: Path
) -> None:
    made = lower(backend, "squeezenet1_1", precision)
    found = content(made.model)
    private = [str(root), f"{Path.home()}/", "site-packages", "Traceback", '.py"', ".py\n"]
    private += [str(made.model.parent), torch.__file__.partition("/torch/")[0]]
    assert not [text for text in private if text.encode() in found]
    name = os.uname().nodename.encode()
    assert len(name) < 6 or name not in found


@both
def test_an_unknown_option_is_refused(
    lower: Lower, networks: dict[str, Network], backend: str, tmp_path: Path
) -> None:
    made = lower(backend, "squeezenet1_1", "fp32")
    with pytest.raises(SpecError, match="turbo"):
        plugins.compiler(backend)(made.program, made.spec, {"turbo": True}, tmp_path)
    assert list(tmp_path.iterdir()) == []


class Eigenvalues(torch.nn.Module):
    """An operator that no converter has."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.linalg.eigvals(image[0, :3, :3, 0].float()).real[None]
        return found


@both
def test_a_network_that_a_converter_refuses_is_one_line(
    networks: dict[str, Network], backend: str, tmp_path: Path
) -> None:
    spec = export.model_spec(networks["squeezenet1_1"], "fp32", "affine")
    program = export.export(Eigenvalues(), torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    with pytest.raises(SpecError) as caught:
        plugins.compiler(backend)(program, spec, {}, tmp_path)
    assert "cannot" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
