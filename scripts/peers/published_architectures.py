"""What timm's and torchvision's own networks are and give, for the tests to hold ours to.

    python scripts/peers/published_architectures.py [-o tests/architectures/published.json]

Run it in an environment of its own that has timm and torchvision: edgekit needs neither. Each
network is filled with numbers that follow from its tensors' names and shapes (`number`), so no
weights are downloaded, and anyone can fill another implementation alike. Names, shapes, batch-norm
settings and logits are written down; `tests/architectures/test_published.py` fills ours by the same
formula and compares.
"""

import argparse
import hashlib
import importlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent.parent

# timm's names for MobileOne -> the names of Apple's own code, which ours are.
APPLE = (
    (r"^stem\.", "stage0."),
    (r"^stages\.0\.", "stage1."),
    (r"^stages\.1\.", "stage2."),
    (r"^stages\.2\.", "stage3."),
    (r"^stages\.3\.", "stage4."),
    (r"\.conv_kxk\.", ".rbr_conv."),
    (r"\.conv_scale\.", ".rbr_scale."),
    (r"\.identity\.", ".rbr_skip."),
    (r"^head\.fc\.", "linear."),
)

# timm's names for MobileNetV1 -> ours, which counts the blocks through.
BLOCKS = ("0.0", "1.0", "1.1", "2.0", "2.1", *(f"3.{i}" for i in range(6)), "4.0", "4.1")
MOBILENET_V1 = (
    (r"^conv_stem\.", "features.0.0."),
    (r"^bn1\.", "features.0.1."),
    *((rf"^blocks\.{re.escape(b)}\.", f"features.{i}.") for i, b in enumerate(BLOCKS, 1)),
    (r"\.conv_dw\.", ".depthwise.0."),
    (r"\.bn1\.", ".depthwise.1."),
    (r"\.conv_pw\.", ".pointwise.0."),
    (r"\.bn2\.", ".pointwise.1."),
    (r"^classifier\.", "classifier.1."),
)


@dataclass(frozen=True)
class Case:
    """One of our networks, and whose network it equals."""

    architecture: str
    source: str
    """torchvision or timm."""
    peer: str = ""
    """Its name there; ours where empty."""
    arguments: Mapping[str, float] = field(default_factory=dict)
    """Of our builder."""
    theirs: Mapping[str, float] = field(default_factory=dict)
    """Of the peer's builder."""
    rename: tuple[tuple[str, str], ...] = ()


CASES = (
    Case("mobilenet_v1", "timm", "mobilenetv1_100", {}, {"bn_eps": 0.001}, MOBILENET_V1),
    Case("mobilenet_v2", "torchvision"),
    *(
        Case("mobilenet_v2", "torchvision", "", {"width_mult": width}, {"width_mult": width})
        for width in (0.35, 1.4)
    ),
    Case("mobilenet_v3_large", "torchvision"),
    Case("mobilenet_v3_small", "torchvision"),
    *(Case(f"shufflenet_v2_x{size}", "torchvision") for size in ("0_5", "1_0", "1_5", "2_0")),
    *(Case(f"squeezenet1_{version}", "torchvision") for version in (0, 1)),
    *(Case(f"resnet{depth}", "torchvision") for depth in (18, 50)),
    Case("efficientnet_b0", "torchvision"),
    Case(
        "efficientnet_b0", "torchvision", "efficientnet_b2", {"width_mult": 1.1, "depth_mult": 1.2}
    ),
    Case("efficientnet_lite0", "timm"),
    Case(
        "efficientnet_lite0", "timm", "efficientnet_lite2", {"width_mult": 1.1, "depth_mult": 1.2}
    ),
    *(Case(f"ghostnet_{width}", "timm") for width in ("050", "100", "130")),
    Case("mobilenetv4_conv_small", "timm"),
    Case("mobileone_s0", "timm", rename=APPLE),
)


def number(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """What a tensor of this name and shape is filled with, float64: then all agree to 1e-9.

    Batch norm's weights and variances are 0.5 to 1.5, and a weight's spread is that of He et al.,
    so that neither signal nor shift is lost on the way; MobileOne's branches, of which six are
    summed, are weakened. NumPy promises to keep RandomState's stream.
    """
    stream = np.random.RandomState(zlib.crc32(name.encode()))
    last = name.rpartition(".")[2]
    if len(shape) > 1:
        values = stream.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    elif last in ("running_var", "weight"):
        values = stream.uniform(0.5, 1.5, shape)
        if last == "weight" and ".rbr_" in name:
            values *= 0.4
    else:
        values = stream.standard_normal(shape) * 0.1
    return torch.from_numpy(np.asarray(values))


def pixels() -> torch.Tensor:
    """(2, 3, 64, 64) float64, normal."""
    return torch.from_numpy(np.random.RandomState(0).standard_normal((2, 3, 64, 64)))


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of its tensors, in its order, without batch norm's counters."""
    state = module.state_dict()
    return {k: tuple(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}


def digest(named: Mapping[str, tuple[int, ...]]) -> str:
    """Of the sorted names and shapes, sha256."""
    return hashlib.sha256(json.dumps(sorted(named.items())).encode()).hexdigest()


def settings(module: nn.Module) -> list[list[float]]:
    """The (eps, momentum) of its batch norms, each pair once."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    return [list(pair) for pair in sorted({(m.eps, m.momentum or 0.0) for m in norms})]


def logits(module: nn.Module, names: Iterable[tuple[str, str]]) -> list[float]:
    """Fill `module` and run it: the first 8 logits of both images.

    Args:
        module: any network of ours or of a peer; may lie on the meta device.
        names: (its name, the name to fill by) of each tensor.
    """
    state = module.state_dict()
    filled = {own: number(name, tuple(state[own].shape)) for own, name in names}
    module.load_state_dict(filled, strict=False, assign=True)
    with torch.inference_mode():
        found: list[float] = module.eval()(pixels())[:, :8].flatten().tolist()
    return found


def renamed(name: str, rename: tuple[tuple[str, str], ...]) -> str:
    """A peer's name as ours: each (regular expression, replacement) in this order."""
    for pattern, replacement in rename:
        name = re.sub(pattern, replacement, name)
    return name


def measure(case: Case) -> dict[str, Any]:
    """Make the peer's network of `case`, and write down what it is and gives."""
    peer = case.peer or case.architecture
    library = importlib.import_module(case.source)
    if case.source == "timm":
        module: nn.Module = library.create_model(peer, **case.theirs)
    else:
        module = getattr(library.models, peer)(**case.theirs)
    named = {renamed(name, case.rename): shape for name, shape in shapes(module).items()}
    found = logits(module, [(name, renamed(name, case.rename)) for name in shapes(module)])
    spread = np.ptp(found)
    moved = np.abs(np.subtract(found[:8], found[8:])).max()
    assert moved > 0.01 * spread > 0, f"{peer}: the image does not reach the logits"
    return {
        "architecture": case.architecture,
        "arguments": dict(case.arguments),
        "peer": f"{case.source} {library.__version__.partition('+')[0]}: {peer}",
        "parameters": sum(p.numel() for p in module.parameters()),
        "shapes_sha256": digest(named),
        "first_shapes": dict(list(named.items())[:5]),
        "batch_norm": settings(module),
        "logits": found,
    }


def main() -> None:
    """Measure every case, and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    default = ROOT / "tests" / "architectures" / "published.json"
    parser.add_argument("-o", "--output", type=Path, default=default)
    output: Path = parser.parse_args().output
    found = []
    for case in CASES:
        found.append(measure(case))
        print(found[-1]["peer"], dict(case.theirs), found[-1]["parameters"], flush=True)
    output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
