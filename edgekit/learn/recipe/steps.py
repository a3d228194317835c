"""What a recipe says of its steps: train, distill, prune, quantize, build."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from edgekit.learn.recipe.fit import Fit
from edgekit.spec import Precision, Scheme


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained network that answers for the student to learn."""

    source: str
    """A checkpoint (file or name), a bundle's folder, a `.tflite` file, `package.module:function`,
    or `before`: the network as it was when the step began. A relative path counts from where the
    command runs."""
    model: str = ""
    """Of a checkpoint without a card: its architecture, or `package.module:function`."""
    arguments: dict[str, int | float | str | bool] = field(default_factory=dict)
    """Of that architecture or function, beside what the checkpoint tells."""
    outputs: Literal["classes", "imagenet"] = "classes"
    """`classes`: its outputs are the recipe's classes, found by their labels where it has labels,
    else in the same order. `imagenet`: take each class's `imagenet`; of 1,001 outputs, where the
    first one is the background, the one after it."""
    size: int = 0
    """Side of the square images that it is asked about, in pixels; 0: its own contract's."""
    mean: tuple[float, ...] = ()
    """With `std`, per channel: it takes (x / 255 - mean) / std. Empty: as its card or its file has
    it, or ImageNet's usual ones for a network that has neither."""
    std: tuple[float, ...] = ()
    precision: Literal["fp32", "bf16"] = "fp32"
    """In which it answers, where it is a network in torch."""
    weight: float = 1.0
    """Its share among several teachers."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A layer of the student that learns from a layer of the first teacher, by their names."""

    student: str
    teacher: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Distill:
    """Loss = alpha * T^2 * KL(teacher at T || student at T) + (1 - alpha) * cross entropy.

    Hinton et al., 2015, section 2; T^2 keeps the gradient's size.
    """

    teachers: tuple[Teacher, ...]
    temperature: float = 2.0
    alpha: float = 0.9
    """Share of the teachers' answers; the labels have the rest."""
    features: tuple[Feature, ...] = ()
    """FitNets (Romero et al., 2015), with a learned 1x1 convolution where channels differ."""
    cache: bool = True
    """Ask the teachers once about each view, and keep the answers on disk. Needs
    `augment.views` above 0, and neither MixUp nor CutMix."""
    answers: str = ""
    """Folder of those answers, which any number of runs can share; a relative one counts from where
    the command runs. Empty: `answers`, beside the folders of the steps."""


@dataclass(frozen=True, slots=True)
class TrainStep:
    """Train, or with `distill` learn from teachers."""

    kind: Literal["train", "distill"]
    name: str
    fit: Fit
    distill: Distill | None = None


@dataclass(frozen=True, slots=True)
class PruneStep:
    """Remove weights or channels, then train on (`fit`)."""

    kind: Literal["prune"]
    name: str
    method: Literal["channels", "magnitude", "n:m", "lottery", "l1"]
    fit: Fit
    distill: Distill | None = None
    macs: float = 0.0
    """`channels`: what shall be left of the MACs, as a fraction."""
    parameters: float = 0.0
    """`channels`: what shall be left of the parameters, as a fraction, instead of `macs`."""
    latency: float = 0.0
    """`channels`: what shall be left of the measured latency on `target`, as a fraction, instead of
    `macs`."""
    target: str = "raspberry-pi"
    """Where `latency` is measured."""
    precision: Precision = "fp32"
    """In which `latency` is measured."""
    criterion: Literal["l1", "batch_norm", "taylor"] = "l1"
    """What tells how much a channel matters."""
    least: float = 0.125
    """`channels`: what stays of each layer at least, as a fraction."""
    round_to: int = 8
    """`channels`: widths are multiples of this, which fast kernels work in; narrower layers stay as
    they are."""
    sparsity: float = 0.0
    """`magnitude`, `lottery`, `l1`: share of the weights that become zero."""
    scope: Literal["global", "layer"] = "global"
    """`magnitude`, `lottery`: rank all weights together, or each layer's own."""
    n: int = 2
    """`n:m`: weights that stay of each `m` along the input channels."""
    m: int = 4
    rounds: int = 1
    """Prune and train on so many times, each time an equal share of what is left."""
    rewind_epoch: int = 0
    """`lottery`: weights go back to what they were when this epoch (from 0) of the dense training
    began (Frankle et al., 2020)."""
    reinitialise: bool = False
    """`lottery`, as a control: the same masks on new random weights."""
    shuffle: bool = False
    """`lottery`, as another control: as many weights in each layer, at random places."""
    penalty: float = 0.0
    """`l1`: weight of the sum of absolute weights in the loss."""
    keep: tuple[str, ...] = ()
    """Layers that are not pruned: names, as in `features.0.*`."""


@dataclass(frozen=True, slots=True)
class QuantizeStep:
    """Quantisation-aware training, by the quantiser that lowers."""

    kind: Literal["quantize"]
    name: str
    fit: Fit
    distill: Distill | None = None
    scheme: Scheme = "affine"
    freeze_observers: float = 0.5
    """Ranges stay as they are after this share of the epochs."""
    freeze_batch_norm: float = 0.3
    """Batch norm uses its running statistics after this share of the epochs."""
    keep_float: tuple[str, ...] = ()
    """Layers that are not quantised: names, as in `features.0.*`."""


@dataclass(frozen=True, slots=True)
class BuildStep:
    """Build a bundle of what the step before left."""

    kind: Literal["build"]
    name: str
    target: str = "raspberry-pi"
    backend: str = ""
    """Empty: the target's own."""
    precision: str = ""
    """Empty: the target's own."""


Step: TypeAlias = TrainStep | PruneStep | QuantizeStep | BuildStep

KINDS: dict[str, type[TrainStep | PruneStep | QuantizeStep | BuildStep]] = {
    "train": TrainStep,
    "distill": TrainStep,
    "prune": PruneStep,
    "quantize": QuantizeStep,
    "build": BuildStep,
}


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """An architecture, its keyword arguments, and what its weights begin with."""

    architecture: str
    """A name, or `package.module:function`."""
    arguments: dict[str, int | float | str | bool] = field(default_factory=dict)
    """`num_classes` is filled in."""
    weights: str = ""
    """A checkpoint, file or name; empty: random. A last layer of other classes is left out."""
    batch_norm: Literal["folded", "restore"] = "folded"
    """Of weights that were stored with batch norm folded in: train without it, or give it back,
    with statistics of training images."""
