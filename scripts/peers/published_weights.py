"""Hold `architectures/published.toml` to torchvision and timm, which published most of it.

Needs both in an environment of their own (they do not import beside the CPU build of torch that
edgekit pins), with edgekit's checkout on PYTHONPATH:

    PYTHONPATH=. /path/to/peer/python scripts/peers/published_weights.py

URLs, digests, top-1, preprocessing: compared with what the packages state. Tensor names: each
`[[names]]` of timm's is proven by running timm's network and ours on the same weights.
"""

import fnmatch
import re
import sys
from collections.abc import Iterator

import timm
import torch
from torchvision.models import get_model_weights

from edgekit import plugins
from edgekit.published import Naming, Published, catalogue

TIMM_NAMES = {
    "efficientnet_b0": "efficientnet_b0",
    "mobilenet_v2": "mobilenetv2_100",
    "mobileone_s0": "mobileone_s0",
}
"""Ours -> timm's, of the networks that have other tensor names there."""


def torchvision_faults(entry: Published, version: str) -> Iterator[str]:
    """What differs from torchvision's own statement."""
    weights = get_model_weights(entry.architecture)[f"IMAGENET1K_{version.upper()}"]
    transforms = weights.transforms()
    crop, resize = transforms.crop_size[0], transforms.resize_size[0]
    stated = {
        "url": weights.url,
        "top1": weights.meta["_metrics"]["ImageNet-1K"]["acc@1"],
        "size": (crop, crop),
        "crop_fraction": crop / resize,
        "mean, std": (tuple(transforms.mean), tuple(transforms.std)),
        "bilinear": transforms.interpolation.value == "bilinear",
    }
    image = entry.image
    ours = {
        "url": entry.url,
        "top1": round(entry.top1 * 100, 3),
        "size": (image.height, image.width),
        "crop_fraction": image.crop_fraction,
        "mean, std": (image.mean, image.std),
        "bilinear": "bicubic" not in entry.note,
    }
    yield from differences(stated, ours)


def timm_faults(entry: Published) -> Iterator[str]:
    """What differs from timm's own configuration; it states no top-1."""
    words = re.split(r"[ ,;:/]", f"{entry.figures} {entry.url}")
    words = re.split(r"[ ,;:/]", f"{entry.figures} {entry.url}")
    tag = next(word for word in words if word.endswith("in1k"))
    config = timm.models.get_pretrained_cfg(tag)
    image = entry.image
    stated = {
        "size": tuple(config.input_size[1:]),
        "crop_fraction": config.crop_pct,
        "mean, std": (config.mean, config.std),
        "bilinear": config.interpolation == "bilinear",
        "hub": True,
    }
    ours = {
        "size": (image.height, image.width),
        "crop_fraction": image.crop_fraction,
        "mean, std": (image.mean, image.std),
        "bilinear": "bicubic" not in entry.note,
        "hub": entry.url == config.url or f"/{config.hf_hub_id}/" in entry.url,
    }
    yield from differences(stated, ours)


def differences(stated: dict[str, object], ours: dict[str, object]) -> Iterator[str]:
    """A line for each key whose values differ."""
    for key, value in stated.items():
        if ours[key] != value:
            yield f"{key}: {ours[key]} here, {value} there"


def naming_fault(naming: Naming) -> str:
    """Run timm's network and ours on the same random weights; "" if they answer alike."""
    (name,) = [known for known in TIMM_NAMES if fnmatch.fnmatchcase(known, naming.architecture)]
    torch.manual_seed(0)
    theirs = timm.create_model(TIMM_NAMES[name]).eval()
    state = theirs.state_dict()
    for key, value in state.items():  # no two tensors alike, so that none may be confused
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif key.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1)
    if naming.has not in state:
        return f"timm has no '{naming.has}'"
    renamed = {}
    for key, value in state.items():
        for pattern, replacement in naming.rename:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    ours = plugins.architecture(name)().eval()
    ours.load_state_dict(renamed)
    image = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        wanted, found = theirs(image), ours(image)
    error = float((wanted - found).abs().max() / wanted.abs().max())
    print(f"{name} under timm's names: largest relative error {error:.1e}")
    return "" if error < 1e-4 else f"error {error:.1e}"


def main() -> int:
    """Print a line for each entry; the exit code says whether all is well."""
    faults = []
    for entry in catalogue().checkpoints:
        source = entry.name.removeprefix(f"{entry.architecture}.")
        if source.startswith("torchvision-"):
            found = list(torchvision_faults(entry, source.removeprefix("torchvision-")))
        elif source.startswith("timm"):
            found = list(timm_faults(entry))
        else:
            print(f"{entry.name}: not checked, neither package has it")
            continue
        print(f"{entry.name}: {'; '.join(found) or 'as stated there'}")
        faults += found
    for naming in catalogue().names:
        if naming.source == "timm" and (fault := naming_fault(naming)):
            faults.append(fault)
            print(f"{naming.architecture}: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
