"""The models of the loop's benchmark, each in the form that its user would have.

    python -m scripts.bench.peers.models DATA [-o build/peers/models]

DATA is as for `accuracy.py`: MobileNetV2's published weights, labels, and photographs to calibrate
on. Every file is made of the same weights, and by no peer's package. Ours are bundles, as
`edgekit build` makes them for a Raspberry Pi. A peer whose file states no mean and deviation has
them folded into the first convolution: no operator more than its users run.
"""

import argparse
import copy
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgekit import plugins
from edgekit.lower.build import build
from edgekit.lower.load import load_network
from edgekit.lower.network import Network, folded
from edgekit.lower.plan import Request
from edgekit.spec import ImageSpec, Precision
from scripts.bench.accuracy import PEER
from scripts.bench.peers.tflite_metadata import with_normalisation

WEIGHTS = "weights/mobilenet_v2_imagenet.safetensors"
LABELS = "images/imagenet_labels.txt"
PHOTOGRAPHS = "images/fullsize"
EPSILON = 1e-5
"""Of a batch norm that does nothing: variance 1 - EPSILON, mean 0, scale 1."""


def bundles(data: Path, out: Path) -> None:
    """Ours, in both precisions; one that is there already stays."""
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    for precision in precisions:
        if not (out / precision).exists():
            request = Request(
                "raspberry-pi",
                model="mobilenet_v2",
                weights=str(data / WEIGHTS),
                labels=data / LABELS,
                calibration=data / PHOTOGRAPHS,
                precision=precision,
                out=out / precision,
            )
            build(request, lambda line: print(line, file=sys.stderr))


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    """Every convolution, in the order in which they run."""
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]


def taking(network: nn.Module, image: ImageSpec, scale: float, shift: float) -> nn.Module:
    """A copy that takes `(pixel - shift) / scale` in the place of normalised planes.

    The border differs by a little: the first convolution pads with another colour.
    """
    made = copy.deepcopy(network)
    first = convolutions(made)[0]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (image.mean, image.std))
    factor, offset = scale / 255 / std, (shift / 255 - mean) / std
    with torch.no_grad():
        first.get_parameter("bias").add_((first.weight * offset).sum((1, 2, 3)))
        first.weight.mul_(factor)
    return made


def to_onnx(module: nn.Module, path: Path, size: tuple[int, int]) -> None:
    """`torch.onnx.export` of planes: (1, 3, H, W) float32 in, (1, classes) out."""
    torch.onnx.export(
        module,
        (torch.zeros(1, 3, *size),),
        str(path),
        input_names=["input"],
        output_names=["output"],
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def state_in_ultralytics(path: Path, labels: tuple[str, ...], size: tuple[int, int]) -> None:
    """The properties that its own exports carry and its predictor reads."""
    model = onnx.load(path)
    properties = {
        "task": "classify",
        "stride": "1",
        "batch": "1",
        "imgsz": str(list(size)),
        "names": str(dict(enumerate(labels))),
    }
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, path)


def to_tflite(module: nn.Module, path: Path, size: tuple[int, int]) -> None:
    """litert-torch's conversion: (1, H, W, 3) float32 in, (1, classes) out."""
    import litert_torch

    nhwc = litert_torch.to_channel_last_io(module, args=[0])
    litert_torch.convert(nhwc.eval(), (torch.zeros(1, *size, 3),)).export(str(path))


def unfolded(network: nn.Module) -> nn.Module:
    """The network with batch norm again, each one only adding the convolution's bias."""
    made = plugins.architecture("mobilenet_v2")().eval()
    assert isinstance(made, nn.Module)
    norms = [part for part in made.modules() if isinstance(part, nn.BatchNorm2d)]
    for there, here, norm in zip(convolutions(network), convolutions(made), norms, strict=True):
        assert norm.running_var is not None
        with torch.no_grad():
            here.weight.copy_(there.weight)
            norm.bias.copy_(there.get_parameter("bias"))
            norm.running_var.fill_(1 - EPSILON)
        norm.eps = EPSILON
    (ours,), (theirs,) = (
        [part for part in module.modules() if isinstance(part, nn.Linear)]
        for module in (made, network)
    )
    ours.load_state_dict(theirs.state_dict())
    return made


def huggingface_names() -> Iterator[str]:
    """Prefixes of `MobileNetV2ForImageClassification`'s blocks, in the order in which they run."""
    yield from ("conv_stem.first_conv", "conv_stem.conv_3x3", "conv_stem.reduce_1x1")
    for block in range(16):
        for part in ("expand_1x1", "conv_3x3", "reduce_1x1"):
            yield f"layer.{block}.{part}"
    yield "conv_1x1"


def to_huggingface(network: Network, out: Path) -> None:
    """A folder as `save_pretrained` writes it."""
    labels, image = network.labels, network.image
    out.mkdir(exist_ok=True)
    with_norms = unfolded(network.module)
    norms = [part for part in with_norms.modules() if isinstance(part, nn.BatchNorm2d)]
    (linear,) = (part for part in with_norms.modules() if isinstance(part, nn.Linear))
    tensors: dict[str, Tensor] = {
        "classifier.weight": linear.weight,
        "classifier.bias": linear.bias,
    }
    for name, conv, norm in zip(huggingface_names(), convolutions(with_norms), norms, strict=True):
        tensors[f"mobilenet_v2.{name}.convolution.weight"] = conv.weight
        for key, value in norm.state_dict().items():
            tensors[f"mobilenet_v2.{name}.normalization.{key}"] = value
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(plain, out / "model.safetensors", metadata={"format": "pt"})
    names = [f"{number} {label}" for number, label in enumerate(labels)]  # two classes are "crane"
    config = {
        "model_type": "mobilenet_v2",
        "architectures": ["MobileNetV2ForImageClassification"],
        "image_size": image.height,
        "tf_padding": False,
        "layer_norm_eps": EPSILON,
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }
    preprocessing = {
        "image_processor_type": "MobileNetV2ImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 256},
        "do_center_crop": True,
        "crop_size": {"height": image.height, "width": image.width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(image.mean),
        "image_std": list(image.std),
    }
    (out / "config.json").write_text(json.dumps(config))
    (out / "preprocessor_config.json").write_text(json.dumps(preprocessing))


def peers(network: Network, out: Path) -> None:
    """Every peer's file, of the folded network."""
    plain, image = network.module, network.image
    size = (image.height, image.width)
    to_onnx(plain, out / "planes.onnx", size)
    unit = nn.Sequential(taking(plain, image, 255, 0), nn.Softmax(1)).eval()
    to_onnx(unit, out / "ultralytics.onnx", size)
    state_in_ultralytics(out / "ultralytics.onnx", network.labels, size)
    to_tflite(taking(plain, image, 127.5, 127.5), out / "float.tflite", size)
    stated = with_normalisation((out / "float.tflite").read_bytes(), [127.5], [127.5])
    (out / "mediapipe.tflite").write_bytes(stated)
    torch.save(unfolded(plain).state_dict(), out / "torchvision.pt")
    to_huggingface(network, out / "huggingface")


def check(network: Network) -> None:
    """The network with batch norm again must answer as the folded one does."""
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32))
    with torch.inference_mode():
        error = float((unfolded(network.module)(x) - network.module(x)).abs().max())
    if error > 1e-3:
        raise SystemExit(f"error: with batch norm the logits differ by {error}")


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="a folder with weights/ and images/")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/peers/models"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    bundles(given.data, given.out)
    network = folded(load_network("mobilenet_v2", str(given.data / WEIGHTS), given.data / LABELS))
    check(network)
    peers(network, given.out)
    shutil.copyfile(given.data / PEER, given.out / "google-int8.tflite")
    (given.out / "int8.tflite").write_bytes((given.out / "int8" / "model.tflite").read_bytes())
    for path in sorted(given.out.iterdir()):
        print(path)


if __name__ == "__main__":
    main()
