"""The data file: every entry can be believed as far as that can be seen without the network.

`scripts/peers/published_weights.py` compares it with torchvision and timm.
"""

import fnmatch
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edgekit import plugins
from edgekit.errors import SpecError, UnknownName
from edgekit.published import Catalogue, Naming, Published, catalogue, find
from edgekit.values import read_toml

ENTRIES = catalogue().checkpoints
NAMES = catalogue().names


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_entry_keeps_the_laws(entry: Published) -> None:
    assert entry.architecture in plugins.architectures()
    assert entry.name.startswith(f"{entry.architecture}.")
    assert re.fullmatch(r"[a-z0-9_]+\.[a-z0-9-]+", entry.name), "it becomes a file's name"
    parts = urlsplit(entry.url)
    assert parts.scheme == "https"
    assert parts.hostname
    assert re.fullmatch(r"[\w.-]+\.(pth|th|tar|bin|safetensors)", entry.file_name)
    assert re.fullmatch(r"|[0-9a-f]{8,10}|[0-9a-f]{64}", entry.sha256)
    if 0 < len(entry.sha256) < 64:
        assert entry.file_name.rpartition(".")[0].endswith(f"-{entry.sha256}")
    assert entry.license
    assert entry.figures
    assert 0.5 < entry.top1 < 1
    assert entry.images in (10_000, 50_000)
    assert 0 < entry.image.crop_fraction <= 1
    assert len(entry.labels) in (0, 10)


def test_names_and_files_are_told_apart() -> None:
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)
    assert len({entry.file_name for entry in ENTRIES}) == len(ENTRIES), "a mirror is one folder"


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "mobilenet_v3_large", "squeezenet1_1", "ghostnet_100", "resnet50"]
)
def test_the_families_that_others_publish_are_there(name: str) -> None:
    assert any(entry.architecture == name for entry in ENTRIES)


@pytest.mark.parametrize("naming", NAMES, ids=lambda naming: naming.architecture)
def test_every_naming_is_of_one_of_ours_and_compiles(naming: Naming) -> None:
    assert fnmatch.filter(plugins.architectures(), naming.architecture)
    for pattern, _ in naming.rename:
        re.compile(pattern)
    assert naming.rename or naming.convert


def test_a_name_is_found_or_the_nearest_is_suggested() -> None:
    assert find("resnet18.torchvision-v1").file_name == "resnet18-f37072fd.pth"
    with pytest.raises(UnknownName, match=r"did you mean 'resnet18.torchvision-v1'"):
        find("resnet18.torchvision")


def test_an_unknown_key_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "published.toml"
    path.write_text('checkpoints = []\nlicence = "MIT"\n')
    with pytest.raises(SpecError, match="licence"):
        read_toml(Catalogue, path)
