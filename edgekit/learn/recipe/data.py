"""What a recipe says of its data: where the images lie, which classes, how they are augmented."""

from dataclasses import dataclass
from pathlib import Path


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
    """Name of the split that is learned from."""
    validation: str = "val"
    """Name of the split that is measured with."""
    classes: str = ""
    """A TOML file beside the recipe with `classes = [{folder, label, imagenet}, ...]`, in the order
    of the network's outputs; empty: the folders' names, sorted."""
    limit: int = 0
    """Only so many training images, the first of each class; 0: all."""


@dataclass(frozen=True, slots=True)
class Augment:
    """What is done to a training image, drawn anew for each view of it.

    View `v` of image `i` is a function of (seed, i, v) alone, so a run that was interrupted, one
    on several machines, and a teacher whose answers were stored see the same.
    """

    views: int = 0
    """How many views of each image there are: epoch e takes view (i + e) mod views. 0: a new one
    each epoch."""
    min_area: float = 0.35
    """Smallest crop, as a fraction of the image's area; the largest is 1."""
    max_ratio: float = 1.3333
    """Widest crop, width over height; the tallest is its inverse."""
    mirror: float = 0.5
    """Probability of a left-right mirror image."""
    brightness: float = 0.0
    """Brightness is shifted by up to this fraction of the range, both ways."""
    contrast: float = 0.0
    """Contrast is scaled by 1 - contrast to 1 + contrast, about mid-grey."""
    saturation: float = 0.0
    """Saturation is scaled by 1 - saturation to 1 + saturation."""
    erase: float = 0.0
    """Probability of erasing a rectangle (Zhong et al., 2020)."""
    mixup: float = 0.0
    """Alpha of MixUp's Beta distribution (Zhang et al., 2018); 0: none."""
    cutmix: float = 0.0
    """Alpha of CutMix's Beta distribution (Yun et al., 2019); 0: none. With both, each batch takes
    one of them, by even chance."""
