import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")
pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def clip(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("a clip") / "clip.mp4"
    subprocess.run([sys.executable, str(root / "scripts" / "demo_clip.py"), str(out)], check=True)
    return out


def test_the_clip_is_about_twelve_seconds_of_moving_pictures(clip: Path) -> None:
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (640, 480, 25)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert 10 * 25 <= len(frames) <= 14 * 25
    cat, cup = frames[60].astype(float), frames[-60].astype(float)
    assert np.abs(cat - cup).mean() > 20, "two scenes"
    assert np.abs(cat - frames[65]).mean() > 1, "the camera moves"
    red, _, blue = cup.mean(axis=(0, 1))
    assert red > blue + 40, "a red cup on wood: the channels are in order"


def test_nothing_is_left_beside_the_clip(clip: Path) -> None:
    assert [path.name for path in clip.parent.iterdir()] == ["clip.mp4"]
