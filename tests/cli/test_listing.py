import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit import plugins

Edgekit = Callable[..., Any]


def test_targets_as_a_table(edgekit: Edgekit) -> None:
    end = edgekit("targets")
    header, *rows = end.out.splitlines()
    assert end.code == 0
    assert header.split() == ["target", "backend", "precision", "camera", "summary"]
    assert [row.split()[0] for row in rows] == list(plugins.targets())
    columns = {row.index(plugins.target(row.split()[0]).summary) for row in rows}
    assert columns == {header.index("summary")}


def test_targets_as_json(edgekit: Edgekit) -> None:
    found = json.loads(edgekit("targets", "--json").out)
    assert [it["name"] for it in found] == list(plugins.targets())
    (jetson,) = (it for it in found if it["name"] == "jetson")
    assert jetson["session"]["providers"][0] == "TensorrtExecutionProvider"


def test_architectures(edgekit: Edgekit) -> None:
    found = json.loads(edgekit("architectures", "--json").out)
    assert [it["name"] for it in found] == list(plugins.architectures())
    assert all(Path(it["file"]).is_file() for it in found)
    assert "MobileNetV2: Inverted Residuals" in edgekit("architectures").out


def test_a_terminal_gets_a_table_that_fits(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    program = "import sys; from edgekit.cli.main import main; sys.exit(main(['targets']))"
    inside, outside = pty.openpty()
    environment = os.environ | {"COLUMNS": "70", "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", program], stdout=outside, env=environment) as it:
        assert it.wait(30) == 0
    os.close(outside)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", os.read(inside, 1 << 16).decode()).splitlines()
    os.close(inside)
    assert any("jetson" in line for line in lines)
    assert any("─" in line for line in lines)
    assert max(map(len, lines)) <= 70
