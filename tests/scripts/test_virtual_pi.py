import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit import bundle as bundles
from edgekit.errors import EdgekitError
from edgekit.lower.build import build
from edgekit.lower.plan import Request
from scripts.virtual_pi_parts import cache, wheels
from scripts.virtual_pi_parts.cpio import Archive
from scripts.virtual_pi_parts.frames import compare, record
from scripts.virtual_pi_parts.kernel import in_order

Run = Callable[..., "subprocess.CompletedProcess[str]"]

BUNDLES = ("raspberry-pi-int8", "linux-fp16")
FRAMES = 4


def silent(line: str) -> None:
    pass


@pytest.fixture
def run(root: Path) -> Run:
    """Runs `scripts/virtual_pi` without its check of the environment, which the tests are in."""

    def call(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "scripts.virtual_pi_parts", *map(str, arguments)],
            cwd=root,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


@pytest.fixture
def pi(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """As `run`, where all that the emulated Pi needs is there or can be had; skips elsewhere.

    One at a time: two emulated machines on two cores would wait for each other beyond deadlines.
    """
    prepared = run("--prepare")
    if prepared.returncode in (3, 69):  # a program or the network is missing
        pytest.skip(prepared.stderr.strip())
    assert prepared.returncode == 0, prepared.stderr
    with (tmp_path_factory.getbasetemp().parent / "virtual-pi.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The carried checkpoint for the Raspberry Pi by precision; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    for precision in ("int8", "fp32"):
        build(Request("raspberry-pi", precision=precision, out=folder / precision), silent)
    return {precision: folder / precision for precision in ("int8", "fp32")}


def test_what_cannot_be_run_is_said(run: Run, tmp_path: Path) -> None:
    nothing = run()
    assert (nothing.returncode, nothing.stderr) == (
        2,
        "error: nothing to run: give a bundle, or a command after --\n",
    )
    no_bundle = run(tmp_path)
    assert no_bundle.returncode == 2
    assert f"{tmp_path} is no bundle" in no_bundle.stderr


def test_two_bundles_of_one_name_are_refused(run: Run, root: Path, tmp_path: Path) -> None:
    bundle = root / "tests/bundles/v1/linux-fp16"
    shutil.copytree(bundle, tmp_path / bundle.name)
    refused = run(bundle, tmp_path / bundle.name)
    assert refused.returncode == 2
    assert "the same folder name" in refused.stderr


def test_a_missing_program_says_what_brings_it(run: Run, tmp_path: Path) -> None:
    missing = run("--prepare", PATH=str(tmp_path))
    assert missing.returncode == 3
    assert "qemu-system-aarch64" in missing.stderr
    assert "scripts/install_system_packages" in missing.stderr


def test_every_package_that_is_needed_is_in_the_list(root: Path) -> None:
    listed = subprocess.run(
        [root / "scripts/install_system_packages", "--list"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {"qemu-system-arm", "qemu-user-static"} <= {*listed}


def test_a_cached_folder_is_made_once_and_again_when_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEKIT_VIRTUAL_PI", str(tmp_path / "cache"))
    times = []

    def make(folder: Path) -> None:
        times.append(folder)
        (folder / "below").mkdir()
        (folder / "below/file").write_text("as it was made")
        (folder / "link").symlink_to("below/file")

    first = cache.cached("thing", "one", make)
    assert cache.cached("thing", "one", make) == first
    assert len(times) == 1
    (first / "below/file").write_text("as it was not")
    assert cache.cached("thing", "one", make) == first
    assert f"{first / 'below/file'} is not as it was" in capsys.readouterr().err
    assert (first / "below/file").read_text() == "as it was made"
    assert len(times) == 2
    assert cache.cached("thing", "another", make) != first
    assert len(times) == 3


def test_a_folder_that_was_left_half_made_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_VIRTUAL_PI", str(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise EdgekitError("no network")

    with pytest.raises(EdgekitError, match="no network"):
        cache.cached("thing", "one", fail)
    made = cache.cached("thing", "one", lambda folder: (folder / "whole").touch())
    assert sorted(path.name for path in made.iterdir()) == ["sums.sha256", "whole"]


def test_wheels_are_those_that_are_installed_here(root: Path) -> None:
    wanted = wheels.requirements(root / "pyproject.toml")
    assert all("==" in requirement for requirement in wanted if ";" not in requirement)
    names = {re.split("[=;>]", requirement)[0] for requirement in wanted}
    assert {"ai-edge-litert", "numpy", "opencv-python-headless"} <= names
    assert not names & {"torch", "onnx"}


def test_modules_come_after_what_they_need(tmp_path: Path) -> None:
    for name, needs in (("a", b"b-2,c"), ("b_2", b"c,inside"), ("c", b"")):
        folder = tmp_path / "kernel"
        folder.mkdir(exist_ok=True)
        (folder / f"{name.replace('_', '-')}.ko").write_bytes(
            b"\x7fELF license=GPL\0depends=" + needs + b"\0name=" + name.encode() + b"\0"
        )
    (tmp_path / "modules.builtin").write_text("kernel/inside.ko\n")
    assert [path.stem for path in in_order(tmp_path, ("inside", "a", "b_2"))] == ["c", "b-2", "a"]
    with pytest.raises(EdgekitError, match="no module d"):
        in_order(tmp_path, ("d",))


def test_the_archive_is_what_cpio_reads(tmp_path: Path) -> None:
    if not shutil.which("cpio"):
        pytest.skip("cpio is not installed (scripts/install_system_packages)")
    source = tmp_path / "source"
    (source / "in").mkdir(parents=True)
    (source / "in/program").write_text("#!/bin/sh\n")
    (source / "in/program").chmod(0o755)
    with (tmp_path / "archive").open("wb") as file:
        archive = Archive(file)
        archive.file("a/b/text", b"12345")
        archive.file("/a/other", b"", 0o600)
        archive.tree(source, "/t")
        archive.close()
    out = tmp_path / "out"
    out.mkdir()
    with (tmp_path / "archive").open("rb") as file:
        subprocess.run(["cpio", "--extract", "--quiet"], cwd=out, stdin=file, check=True)
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert found == {"a/b/text", "a/other", "t/in/program"}
    assert (out / "a/b/text").read_text() == "12345"
    assert (out / "t/in/program").stat().st_mode & 0o777 == 0o755
    assert (out / "a/other").stat().st_mode & 0o777 == 0o600


def test_frames_that_are_not_the_same_are_told(root: Path, tmp_path: Path) -> None:
    bundle = root / "tests/bundles/v1/raspberry-pi-int8"
    record(bundle, "synthetic://320x240@30?format=nv12", tmp_path, 2)
    same = compare(bundle, tmp_path)
    assert (same.frames, same.formats) == (2, "NV12 320x240")
    assert (same.different, same.most_lsb, same.logits, same.best) == (0, 0, 0.0, 2)

    with np.load(tmp_path / "0001.npz") as kept:
        arrays = dict(kept)
    arrays["plane0"] = 255 - arrays["plane0"]
    np.savez(tmp_path / "0001.npz", allow_pickle=False, **arrays)
    changed = compare(bundle, tmp_path)
    assert changed.frames == 2
    assert changed.different > 64 * 64
    assert changed.most_lsb > 100
    assert changed.logits > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_verifies_on_aarch64(pi: Run, root: Path, name: str) -> None:
    verified = pi("--user", "--", "edgekit", "verify", "--json", root / "tests/bundles/v1" / name)
    assert verified.returncode == 0, verified.stderr
    answer = json.loads(verified.stdout)
    assert answer["passed"]
    assert len(answer["golden"]) == 4
    where = pi("--user", "--", "python", "-c", "import platform; print(platform.machine())")
    assert where.stdout == "aarch64\n"


@pytest.mark.slow
def test_the_machine_is_a_pi_with_a_camera_and_no_network(pi: Run, tmp_path: Path) -> None:
    script = """
        grep -m 1 'CPU part' /proc/cpuinfo; uname -m; ls /sys/class/net /dev/video0
        python -c 'import torch' || echo no torch; echo quietly >&2
        echo kept > kept; exit 7
    """
    ran = pi("--out", tmp_path, "--", "sh", "-c", f"cd '{tmp_path}'; {script}")
    assert ran.returncode == 7, ran.stderr
    assert ran.stdout.split("\n") == [
        "CPU part\t: 0xd08",
        "aarch64",
        "/dev/video0",
        "",
        "/sys/class/net:",
        "lo",
        "no torch",
        "",
    ]
    assert ran.stderr.endswith("quietly\n")
    assert (tmp_path / "kept").read_text() == "kept\n"


@pytest.mark.slow
def test_a_run_that_takes_too_long_is_ended(pi: Run) -> None:
    ended = pi("--timeout", "15", "--", "sh", "-c", "echo begun; sleep 1000")
    assert (ended.returncode, ended.stdout) == (124, "begun\n"), ended.stderr
    assert "ended after 15 s" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ending_it_ends_the_machine(pi: Run, root: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "scripts.virtual_pi_parts", "--"]
    command += ["sh", "-c", "echo begun; sleep 1000"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        assert process.stdout.read() == ""  # QEMU held the other end, too
        assert process.wait() == 128 + number


@pytest.mark.slow
def test_the_demo_says_what_the_camera_sees(pi: Run, made: dict[str, Path], tmp_path: Path) -> None:
    ran = pi(*made.values(), "--frames", FRAMES, "--out", tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert len(re.findall(r"^\d+ frames, [\d.]+ fps, \d+ dropped", ran.stdout, re.MULTILINE)) == 2
    for bundle in made.values():
        labels = set(bundles.read(bundle).labels)
        lines = (tmp_path / f"{bundle.name}.jsonl").read_text().splitlines()
        answers = [json.loads(line) for line in lines]
        assert len(answers) >= FRAMES
        numbers = [answer["frame"] for answer in answers]
        assert numbers == sorted({*numbers})
        assert all(answer["predictions"][0]["label"] in labels for answer in answers)


@pytest.mark.slow
def test_answers_are_those_of_this_machine_on_the_same_frames(
    pi: Run, made: dict[str, Path], tmp_path: Path
) -> None:
    # Patterns with edges and with noise, so that resizing has something to get wrong.
    lines = ["set -e"]
    runs = (("int8", "nv12", 4), ("fp32", "nv12", 21), ("int8", "yuyv", 21))
    for precision, of, pattern in runs:
        lines += [
            f"v4l2-ctl --set-ctrl test_pattern={pattern},horizontal_movement=6",
            "python -m scripts.virtual_pi_parts.frames record "
            f"'{made[precision]}' 'v4l2:///dev/video0?format={of}' "
            f"'{tmp_path}/{precision}-{of}' --frames {FRAMES}",
        ]
    ran = pi(*made.values(), "--out", tmp_path, "--", "sh", "-c", "\n".join(lines))
    assert ran.returncode == 0, ran.stderr
    for precision, of, _ in runs:
        found = compare(made[precision], tmp_path / f"{precision}-{of}")
        assert (found.frames, found.formats) == (FRAMES, f"{of.upper()} 640x480")
        image = bundles.read(made[precision]).manifest.image
        assert found.values == FRAMES * image.height * image.width * 3
        assert found.different == 0  # every pixel of the prepared inputs
        assert found.best == FRAMES
        assert found.logits <= (0.0 if precision == "int8" else 1e-4)


@pytest.mark.slow
def test_the_demo_survives_what_the_driver_can_break(
    pi: Run, made: dict[str, Path], tmp_path: Path
) -> None:
    faults = "scripts.virtual_pi_parts.faults"
    ran = pi(made["int8"], "--out", tmp_path, "--", "python", "-m", faults, made["int8"], tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads((tmp_path / "faults.json").read_text())
    assert [fault["fault"] for fault in found["faults"] if fault["survived"]] == [
        "damaged_frame",
        "dropped_frames",
        "refused_buffer",
        "broken_stream",
        "disconnected",
        "unplugged",
        "another_number",
    ]
    assert found["sigterm"]["exit_code"] == 143
    assert found["sigterm"]["released"]
    assert found["gone_for_good"]["exit_code"] == 69
