"""`edgekit run` and `apps/camera_demo.py`, as a user runs them, in processes of their own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.bundle import Bundle

LAST = r"\d+ frames, [\d.]+ fps, \d+ dropped, frame age p50 [\d.]+ ms, p95 [\d.]+ ms"
COLOURS = [
    "0:00 red 100 % (10 of 10 frames)",
    "0:01 green 100 % (10 of 10 frames)",
    "0:02 blue 100 % (10 of 10 frames)",
]


@pytest.fixture(params=["run", "demo"])
def program(request: pytest.FixtureRequest, root: Path) -> list[str]:
    """Both programs that share the loop."""
    if request.param == "run":
        return RUN
    return [sys.executable, str(root / "apps" / "camera_demo.py")]


RUN = [sys.executable, "-m", "edgekit.cli.main", "run"]


def call(
    *command: str | Path, rc: int = 0, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=60, cwd=cwd
    )
    assert done.returncode == rc, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_clip(program: list[str], bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    video = tmp_path / "out.mp4"
    done = call(*program, bundle.path, clip, "--output", video)
    *seconds, last = done.stdout.splitlines()
    assert seconds == COLOURS
    assert re.fullmatch(LAST, last)
    assert last.startswith("30 frames")
    assert video.stat().st_size > 1000


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_cleanly(
    program: list[str], bundle: Bundle, tmp_path: Path, number: int, code: int
) -> None:
    import av

    video = tmp_path / "out.mp4"
    running = subprocess.Popen(
        [*program, bundle.path, "synthetic://64x48@100", "--output", video],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts its background jobs with Ctrl-C ignored, and children keep that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert running.stdout is not None
    assert running.stdout.readline().startswith("0:00")  # a second has passed
    running.send_signal(number)
    out, err = running.communicate(timeout=20)
    assert running.returncode == code, err
    assert "Traceback" not in err
    assert re.fullmatch(LAST, out.splitlines()[-1])
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 20


def test_a_reader_that_goes_away(program: list[str], bundle: Bundle) -> None:
    source = "synthetic://64x48@1000?pace=fast&frames=100000"
    with subprocess.Popen(
        [*program, bundle.path, source, "--output", "json://-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        json.loads(running.stdout.readline())
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 141


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("nothing.mp4", 2, "no file or folder 'nothing.mp4'"),
        ("v4l2:///dev/video99", 69, "no camera /dev/video99"),
        ("syntetic://", 2, "did you mean 'synthetic'"),
    ],
)
def test_a_source_that_is_wrong(
    program: list[str], bundle: Bundle, source: str, code: int, message: str
) -> None:
    done = call(*program, bundle.path, source, rc=code)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_flipped_byte_is_refused(
    program: list[str], bundle: Bundle, clip: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(bundle.path, damaged)
    model = bytearray((damaged / "model.onnx").read_bytes())
    model[-1] ^= 1
    (damaged / "model.onnx").write_bytes(model)
    done = call(*program, damaged, clip, rc=1)
    assert "model.onnx has other bytes" in done.stderr


def test_images_get_a_line_each(
    bundle: Bundle, photo: Callable[[str, str], Path], tmp_path: Path
) -> None:
    photo("b/two.png", "green")
    one = photo("one.png", "blue")
    done = call(*RUN, bundle.path, one, "--top", "2")
    assert done.stdout == f"{one}: blue 100.0 %, red 0.0 %\n"
    done = call(*RUN, bundle.path, ".", "--top", "1", cwd=tmp_path)
    assert done.stdout == "b/two.png: green 100.0 %\none.png: blue 100.0 %\n"


def test_json_is_all_that_stdout_has(bundle: Bundle, clip: Path) -> None:
    done = call(*RUN, bundle.path, clip, "--json", "--frames", "3", "--top", "1", "--stats")
    *lines, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2]
    assert [line["predictions"][0]["label"] for line in lines] == ["red"] * 3
    for part in ("runs on CPUExecutionProvider", "prepare", "bytes copied per frame", "input: res"):
        assert part in done.stderr
    (summary,) = last["summary"]
    assert (summary["source"], summary["model"]) == (str(clip), bundle.manifest.name)
    assert (summary["frames"], summary["produced"], summary["dropped"]) == (3, 3, 0)
    assert summary["bytes_per_frame"]["frame"] == 0
    assert set(summary["stages_ms"]) >= {"capture", "wait", "prepare", "infer", "decode", "output"}


def test_several_sources_and_models(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    second = tmp_path / "again.mp4"
    shutil.copy(clip, second)
    done = call(*RUN, bundle.path, clip, second, "--stats")
    lines = done.stdout.splitlines()
    name = bundle.manifest.name
    for source in (clip, second):
        assert [line for line in lines if line.startswith(f"{source}, {name}: 0:")] == [
            f"{source}, {name}: {colour}" for colour in COLOURS
        ]
    assert sum(": 30 frames, " in line for line in lines) == 2
    assert done.stderr.count("bytes copied per frame") == 2
    done = call(*RUN, bundle.path, clip, "--model", bundle.path)
    assert f"{clip}, {name} (2): {COLOURS[0]}" in done.stdout


def test_a_folder_and_its_broken_picture(bundle: Bundle, photo: Callable[[str, str], Path]) -> None:
    folder = photo("a.png", "red").parent
    (folder / "b.png").write_bytes(b"broken")
    done = call(*RUN, bundle.path, folder, rc=2)
    assert done.stdout.startswith(f"{folder}/a.png: red 100.0 %")
    assert "b.png (6 bytes) is not an image" in done.stderr


def test_a_clip_by_the_clock_drops_what_is_too_late(bundle: Bundle, clip: Path) -> None:
    started = time.monotonic()
    done = call(*RUN, bundle.path, f"{clip}?pace=realtime")
    assert time.monotonic() - started > 2.8
    assert done.stdout.splitlines()[:-1] == COLOURS


def test_the_device_half_runs_without_torch(bundle: Bundle, clip: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import runpy; sys.argv = ['demo', *sys.argv[1:]]\n"
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
        "assert not {'onnx', 'litert_torch', 'torchao'} & sys.modules.keys()"
    )
    demo = Path(__file__).parents[2] / "apps" / "camera_demo.py"
    call(sys.executable, "-c", code, demo, bundle.path, clip)


def test_telemetry_is_off(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if "ORT" not in key}
    done = subprocess.run(
        [*RUN, str(bundle.path), str(clip)],
        env=environment | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []
