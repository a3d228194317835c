"""Two small networks, lowered by each compiler at each precision once a session."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from architectures.mobilenet_v2 import mobilenet_v2
from architectures.squeezenet import squeezenet1_1
from edgekit import plugins
from edgekit.lower import export
from edgekit.lower.calibrate import Images, from_photographs
from edgekit.lower.gate import parity
from edgekit.lower.int8.quantise import quantise
from edgekit.lower.network import Network, fold_batch_norm
from edgekit.spec import ImageSpec, ModelSpec, Precision, Scheme, Session, SessionOptions

IMAGE = ImageSpec(64, 64)
LABELS = tuple("abcdefg")


@dataclass(frozen=True)
class Lowered:
    """A model file, and what it was made of."""

    model: Path
    program: ExportedProgram
    spec: ModelSpec
    session: Session
    inputs: list[np.ndarray]

    def expected(self) -> np.ndarray:
        """(N, 7) logits of the torch program."""
        return parity.run_module(self.program.module(check_guards=False), self.inputs)

    def found(self) -> np.ndarray:
        """(N, 7) logits of the file."""
        return parity.run_session(self.session, self.inputs)


Lower = Callable[..., Lowered]


@pytest.fixture(scope="session")
def images() -> Images:
    return from_photographs(IMAGE, 40)


@pytest.fixture(scope="session")
def networks(images: Images) -> dict[str, Network]:
    """With seeded weights; batch norm has the statistics of the images. Not to be changed."""
    made: dict[str, nn.Module] = {}
    torch.manual_seed(0)
    made["mobilenet_v2"] = settled(mobilenet_v2(len(LABELS), width_mult=0.35), images)
    made["squeezenet1_1"] = squeezenet1_1(len(LABELS)).eval()
    nn.init.normal_(made["squeezenet1_1"].get_parameter("classifier.1.weight"), 0, 0.1)
    return {name: Network(name, m, IMAGE, LABELS, {}, "") for name, m in made.items()}


def settled(module: nn.Module, images: Images) -> nn.Module:
    pixels = torch.from_numpy(np.concatenate(images.inputs)).permute(0, 3, 1, 2).float()
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.momentum = None
        elif isinstance(child, nn.Linear):
            nn.init.normal_(child.weight, 0, 0.1)
    with torch.no_grad():
        module.train()((pixels - 120) / 60)
    return fold_batch_norm(module)


@pytest.fixture(scope="session")
def tensors(images: Images) -> list[Tensor]:
    return [torch.from_numpy(tensor) for tensor in images.inputs]


@pytest.fixture(scope="session")
def lower(
    networks: dict[str, Network], images: Images, tmp_path_factory: pytest.TempPathFactory
) -> Lower:
    """`lower(backend, network, precision, scheme, **options)`; each is made once."""
    made: dict[object, Lowered] = {}
    programs: dict[object, ExportedProgram] = {}
    tensors = [torch.from_numpy(tensor) for tensor in images.inputs]

    def program(name: str, precision: Precision, scheme: Scheme) -> ExportedProgram:
        network = networks[name]
        if ("float", name) not in programs:
            eager = export.with_camera_input(network)
            programs["float", name] = export.export(eager, export.example(network))
        if precision == "int8" and (scheme, name) not in programs:
            module = programs["float", name].module(check_guards=False)
            programs[scheme, name] = quantise(module, tensors, scheme)
        return programs[scheme if precision == "int8" else "float", name]

    def lower(
        backend: str,
        name: str,
        precision: Precision,
        scheme: Scheme = "affine",
        **options: str | int,
    ) -> Lowered:
        key = (backend, name, precision, scheme, *options.items())
        if key not in made:
            wanted = program(name, precision, scheme)
            spec = export.model_spec(networks[name], precision, scheme)
            out = tmp_path_factory.mktemp(f"{backend}-{name}-{precision}")
            artifact = plugins.compiler(backend)(wanted, spec, options, out)
            assert list(out.iterdir()) == [artifact.model]
            session = plugins.loader(backend)(artifact.model, SessionOptions(threads=1))
            few = list(images.inputs[:12])
            made[key] = Lowered(artifact.model, wanted, spec, session, few)
        return made[key]

    return lower
