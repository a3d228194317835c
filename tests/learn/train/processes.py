"""Starts several processes of a test, as torchrun would, or by torchrun itself."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.virtual_camera import ROOT

WORKER = [sys.executable, "-m", "tests.learn.train.workers"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def work(function: str, out: Path, given: Mapping[str, Any] | None = None) -> list[str]:
    """The command line of a process that runs `workers.function`."""
    return [*WORKER, function, str(out), json.dumps(given or {})]


def start(
    command: Sequence[str], world: int = 2, timeout: float = 120
) -> list[subprocess.CompletedProcess[str]]:
    """Run `command` as each of `world` processes that meet on loopback; in the order of ranks."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    running = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=ONE_THREAD | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        said = [process.communicate(timeout=timeout) for process in running]
    finally:
        for process in running:
            process.kill()
    return [
        subprocess.CompletedProcess(command, process.returncode, *texts)
        for process, texts in zip(running, said, strict=True)
    ]


def torchrun(arguments: Sequence[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run two processes by torchrun; `arguments` are the module's, or end with `-m MODULE ...`."""
    return subprocess.run(
        [*TORCHRUN, *options, *arguments],
        cwd=ROOT,
        env=ONE_THREAD,
        capture_output=True,
        text=True,
        timeout=300,
    )
