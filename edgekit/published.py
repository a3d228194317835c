"""The checkpoints that others publish, and the names that others give to the same tensors.

Both are data, stated once in `architectures/published.toml`. Nothing here reaches the network.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from edgekit import values
from edgekit.errors import UnknownName
from edgekit.spec import ImageSpec

DATA = Path(__file__).resolve().parent.parent / "architectures" / "published.toml"

IMAGENET = ImageSpec(height=224, width=224)
"""torchvision's evaluation of its ImageNet classifiers: 224 of 256, bilinear, mean and std."""


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint as its authors offer it."""

    name: str
    """Ours, `<architecture>.<source>-<version>`: what `weights pull` and `--weights` take."""
    architecture: str
    url: str
    sha256: str
    """What is published of it, hexadecimal: all 64 digits, or the first ones, which the file's name
    carries. Empty where nothing is published."""
    license: str
    top1: float
    """Published top-1, a fraction of 1."""
    figures: str
    """Where the figure, the image contract and the digest are stated."""
    arguments: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    file: str = ""
    """The file's name in a mirror; empty for the last part of the URL."""
    image: ImageSpec = IMAGENET
    """How the images were prepared for that figure."""
    trained_on: str = "ImageNet-1k (ILSVRC 2012)"
    images: int = 50_000
    """Validation images behind `top1`."""
    labels: tuple[str, ...] = ()
    """In order of the outputs; empty where the names are not stated with the weights."""
    note: str = ""

    @property
    def file_name(self) -> str:
        return self.file or urlsplit(self.url).path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Naming:
    """How another code base calls the tensors of one of our networks."""

    architecture: str
    """A name, or a pattern of them as `*` and `?` make it."""
    source: str
    """For people: whose names these are."""
    has: str
    """A tensor's name that only this naming has, in every checkpoint of it."""
    rename: tuple[tuple[str, str], ...] = ()
    """(regular expression, replacement), applied in this order to each name."""
    convert: str = ""
    """A function of the architecture's file that maps the whole state dict, where names alone do
    not do: (name -> tensor) to (name -> tensor). Applied after `rename`."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All of `published.toml`."""

    checkpoints: tuple[Published, ...]
    names: tuple[Naming, ...] = ()


@cache
def catalogue() -> Catalogue:
    """Read the data file; raises SpecError for a key that is not known."""
    return values.read_toml(Catalogue, DATA)


def find(name: str) -> Published:
    """The published checkpoint `name`; raises UnknownName with the names that there are."""
    known = {entry.name: entry for entry in catalogue().checkpoints}
    if name not in known:
        raise UnknownName("published checkpoint", name, known)
    return known[name]
