import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Edgekit = Callable[..., Any]


def test_service_prints_a_unit(edgekit: Edgekit, running: Path, tmp_path: Path) -> None:
    end = edgekit("service", "--print", "--user", "pi", running, "synthetic://64x48@30",
                  "-o", "http://127.0.0.1:8080", "--top", "5", "--stats")  # fmt: skip
    assert (end.code, end.err) == (0, "")
    (start,) = (line for line in end.out.splitlines() if line.startswith("ExecStart="))
    program, *arguments = shlex.split(start.removeprefix("ExecStart="))  # paths may have spaces
    assert Path(program).parent == Path(sys.executable).parent
    ending = f"run {running} synthetic://64x48@30 -o http://127.0.0.1:8080 --top 5 --stats"
    assert " ".join(arguments).endswith(ending)
    assert "User=pi" in end.out.splitlines()


def test_service_refuses_what_run_refuses(edgekit: Edgekit, running: Path) -> None:
    end = edgekit("service", "--print", running, "csi://0", "--no-such-option")
    assert end.code == 2
    assert "no-such-option" in end.err
    end = edgekit("service", "--print", running)
    assert end.code == 2
    end = edgekit("service", running, "csi://0")
    assert end.code == 2
    assert "--print" in end.err


@pytest.mark.parametrize("bundle", ["nowhere"])
def test_service_needs_a_bundle(edgekit: Edgekit, bundle: str) -> None:
    end = edgekit("service", "--print", bundle, "csi://0")
    assert end.code == 2
    assert bundle in end.err
