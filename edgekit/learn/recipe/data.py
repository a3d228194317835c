"""What a recipe says of its data: where the images lie, which classes, how they are augmented."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """One class: the folder that holds its images, its name for people, its place in ImageNet."""

    folder: str
    label: str
    imagenet: int = -1
    """Its output of a network with ImageNet's 1,000 classes; -1: it has none."""


@dataclass(frozen=True, slots=True)
class DataSpec:
    """Labelled images: a folder or zip of `<split>/<class folder>/.../*.jpg`, or shards."""

    path: Path
    """A folder, a `.zip`, a `.zip.xz`, or a folder of WebDataset shards (`train-000000.tar`)."""
    train: str = "train"
    """Name of the split that is learned from; ".": the class folders lie at the top."""
    validation: str = "val"
    """Name of the split that is measured with."""
    validation_share: float = 0.0
    """Instead of a split of its own, measure with this share of each class's training images, which
    are not learned from; the same ones in every run. 0: there is a split."""
    classes: str = ""
    """A TOML file beside the recipe with `classes = [{folder, label, imagenet}, ...]`, in the order
    of the network's outputs; empty: the folders' names, sorted."""
    subset: bool = False
    """`classes` are some of the data's alone; images of others are left out."""
    limit: int = 0
    """Only so many training images, the first of each class; 0: all."""
    memory: float = 4.0
    """GiB: a split that is no larger once decoded is kept so; of a larger one each image is decoded
    when its turn comes."""
    buffer: int = 2048
    """Shards: so many images are mixed at a time, and kept in memory as they are stored, twice."""


@dataclass(frozen=True, slots=True)
class Augment:
    """What is done to a training image, drawn anew for each view of it.

    View `v` of image `i` is a function of (seed, i, v) alone, so a run that was interrupted, one
    on several machines, and a teacher whose answers were stored see the same.
    """

    views: int = 0
    """How many views of each image there are: epoch e takes view (i + e) mod views. 0: a new one
    each epoch."""
    seed: int = 0
    """Of the views. Runs with other seeds of the recipe then see the same views, and share a
    teacher's stored answers. 0: the recipe's."""
    min_area: float = 0.35
    """Smallest crop, as a fraction of the image's area; the largest is 1. With 1 the whole image is
    taken."""
    max_ratio: float = 1.3333
    """By how much a crop may be wider than the network's input; or taller, by the inverse."""
    resize: Literal["area", "bilinear", "either"] = "area"
    """How a crop comes to its size: `area` is the mean of what a pixel covers, or bicubic where it
    grows; `bilinear` takes four pixels, as a contract of that name; `either`, by even chance."""
    pad: int = 0
    """Before the crop, shift by up to so many of the image's pixels each way; what comes in is a
    reflection. The usual for CIFAR is 4, with min_area = 1."""
    mirror: float = 0.5
    """Probability of a left-right mirror image."""
    brightness: float = 0.0
    """Brightness is shifted by up to this fraction of the range, both ways."""
    contrast: float = 0.0
    """Contrast is scaled by 1 - contrast to 1 + contrast, about mid-grey."""
    saturation: float = 0.0
    """Saturation is scaled by 1 - saturation to 1 + saturation."""
    hue: float = 0.0
    """Hue is turned by up to this fraction of the circle, both ways."""
    trivial_augment: bool = False
    """One more change, drawn evenly from fourteen (TrivialAugment, wide; Mueller and Hutter,
    2021)."""
    erase: float = 0.0
    """Probability of erasing a rectangle (Zhong et al., 2020)."""
    erase_with: Literal["grey", "noise"] = "grey"
    """What is where it was erased."""
    mixup: float = 0.0
    """Alpha of MixUp's Beta distribution (Zhang et al., 2018); 0: none."""
    cutmix: float = 0.0
    """Alpha of CutMix's Beta distribution (Yun et al., 2019); 0: none. With both, each batch takes
    one of them, by even chance."""
