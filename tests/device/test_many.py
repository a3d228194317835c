import threading
from collections import defaultdict
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.device.many import Many
from edgekit.device.running import running
from edgekit.device.uri import open_camera
from edgekit.errors import ImageError, SourceUnavailable

CLIPS = "synthetic://64x48@30?pace=fast&frames="


def test_every_frame_of_every_file_by_every_model(bundle: Bundle, clip: Path) -> None:
    sources = [f"{CLIPS}20", f"{CLIPS}30", str(clip)]
    found: dict[str, list[int]] = defaultdict(list)
    with running([bundle], sources) as loop:
        assert isinstance(loop, Many)
        for result in loop:
            found[result.source].append(result.frame.sequence)
            assert result.model == bundle.manifest.name
            assert result.frame.picture.width == 64  # lent until the next one
    assert found == {
        sources[0]: [*range(20)],
        sources[1]: [*range(30)],
        sources[2]: [*range(30)],
    }
    summaries = loop.summaries()
    assert [summary.frames for summary in summaries.values()] == [20, 30, 30]
    assert [summary.dropped for summary in summaries.values()] == [0, 0, 0]
    assert "lane" not in [thread.name for thread in threading.enumerate()]


def test_two_models_answer_each_frame(bundle: Bundle, clip: Path) -> None:
    with ExitStack() as stack:
        camera = stack.enter_context(closing(open_camera(str(clip))))
        loop = stack.enter_context(Many([renamed(bundle, "a"), renamed(bundle, "b")], [camera]))
        answers = [(r.frame.sequence, r.model, r.best.label) for r in loop]
    labels = ("red", "green", "blue")
    assert answers == [(n, m, labels[n // 10]) for n in range(30) for m in ("a", "b")]


def test_live_cameras_side_by_side(bundle: Bundle) -> None:
    sources = [f"synthetic://64x48@{fps}?frames={fps}" for fps in (60, 100, 120)]
    used: dict[str, list[int]] = defaultdict(list)
    with running([bundle], sources) as loop:
        for result in loop:
            used[result.source].append(result.frame.sequence)
    for name, summary in loop.summaries().items():
        sequences = used[name[0]]
        assert sequences == sorted(set(sequences))
        assert summary.frames == len(sequences) > 10
        assert summary.dropped == summary.produced - summary.frames
        assert summary.produced <= int(name[0].rpartition("=")[2])


def test_a_limit_counts_all_frames(bundle: Bundle) -> None:
    with running([bundle], [f"{CLIPS}100", f"{CLIPS}99"], limit=7) as loop:
        assert len([*loop]) == 7


def test_one_of_them_fails(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with (
        running([bundle], [f"{CLIPS}100000", str(broken)]) as loop,
        pytest.raises(ImageError, match=r"broken\.png"),
    ):
        for _ in loop:
            pass
    assert "lane" not in [thread.name for thread in threading.enumerate()]


def test_one_of_them_is_unplugged_for_good(bundle: Bundle) -> None:
    sources = ["synthetic://64x48@200?fault=unplug:5", "synthetic://64x48@200"]
    with (
        running([bundle], sources) as loop,
        pytest.raises(SourceUnavailable, match="5 times within a minute"),
    ):
        for _ in loop:
            pass


def test_sources_and_models_of_one_name_are_told_apart(bundle: Bundle, clip: Path) -> None:
    name = bundle.manifest.name
    with running([bundle, bundle], [str(clip), str(clip)]) as loop:
        models = {(result.source, result.model) for result in loop}
    expected = [(s, m) for s in (f"{clip}", f"{clip} (2)") for m in (name, f"{name} (2)")]
    assert models == set(expected)
    assert [*loop.summaries()] == expected
    assert [summary.frames for summary in loop.summaries().values()] == [30] * 4


def renamed(bundle: Bundle, name: str) -> Bundle:
    return replace(bundle, manifest=replace(bundle.manifest, name=name))
