import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import read, seal

Edgekit = Callable[..., Any]


def test_a_table_of_two_bundles(edgekit: Edgekit, running: Path, tmp_path: Path) -> None:
    other = shutil.copytree(running, tmp_path / "other")
    end = edgekit("bench", running, other, "--runs", 30, "--warmup", 2, "--threads", 1)
    assert end.code == 0, end.err
    header, first, second, *notes = end.out.splitlines()
    assert header.split()[:4] == ["bundle", "precision", "threads", "min/ms"]
    assert first.split()[:3] == ["fake-linux-fp32", "fp32", "1"]
    assert second.split()[0] == "other"
    assert any("CPUExecutionProvider" in note for note in notes)


def test_json_is_consistent(edgekit: Edgekit, running: Path) -> None:
    end = edgekit("bench", running, "--runs", 45, "--json")
    (found,) = json.loads(end.out)
    assert found["runs"] == 45
    assert found["warmup"] == 20
    assert found["loaded"]["threads"] == 1  # the bundle's own setting
    assert found["loaded"]["model_bytes"] == (running / "model.onnx").stat().st_size
    assert 0 < found["min_ms"] <= found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert found["per_second"] == pytest.approx(1000 / found["mean_ms"])
    assert 1 < found["base_memory_mb"] < found["peak_memory_mb"]


def test_memory_is_the_workers_own(edgekit: Edgekit, running: Path) -> None:
    ballast = bytearray(os.urandom(1 << 20) * 500)  # resident here, and not to be counted there
    (found,) = json.loads(edgekit("bench", running, "--runs", 1, "--json").out)
    assert found["base_memory_mb"] < 200
    assert len(ballast) == 500 << 20


def test_errors_of_the_worker_are_the_users_errors(edgekit: Edgekit, running: Path) -> None:
    assert edgekit("bench", running.parent / "absent").code == 2
    manifest = read(running).manifest
    (running / "labels.txt").write_text("")
    end = edgekit("bench", running)
    assert end.code == 1
    assert end.err.startswith(f"error: {running}: labels.txt has 0 bytes")
    (running / "labels.txt").write_text("red\ngreen\nblue\n")
    (running / "model.onnx").write_bytes(b"not a model")
    seal(running, manifest)
    end = edgekit("bench", running)
    assert end.code == 2
    assert "refuses the model" in end.err


@pytest.mark.parametrize("option", [("--runs", "0"), ("--threads", "-1"), ("--runs", "x")])
def test_senseless_counts_are_usage_errors(
    edgekit: Edgekit, running: Path, option: tuple[str, str]
) -> None:
    end = edgekit("bench", running, *option)
    assert end.code == 2
    assert end.err.startswith("error: Invalid value for")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_ends_its_workers(running: Path, number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "edgekit.cli.main", "bench", str(running)]
    with subprocess.Popen(
        [*command, "--runs", "100000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        workers = wait_for_children(process.pid)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert b"Traceback" not in err
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def wait_for_children(pid: int) -> list[str]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.exists():
        pytest.skip("needs Linux's /proc")
    for _ in range(100):
        if found := children.read_text().split():
            time.sleep(0.5)
            return found
        time.sleep(0.1)
    raise AssertionError("no worker was started")
