import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgekit as package
from edgekit import errors
from edgekit.cli import main as cli

Edgekit = Callable[..., Any]
VERBS = {
    "build", "run", "verify", "bench", "inspect", "distill", "service", "targets", "architectures",
    "doctor", "weights",
}  # fmt: skip
COMMAND = [sys.executable, "-c", "import sys; from edgekit.cli.main import main; sys.exit(main())"]


def ending_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(arguments: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_invoke", fail)


def test_version(edgekit: Edgekit) -> None:
    end = edgekit("--version")
    assert (end.code, end.out, end.err) == (0, f"edgekit {package.__version__}\n", "")


def test_help_lists_every_verb(edgekit: Edgekit) -> None:
    for arguments in (["--help"], ["-h"]):
        end = edgekit(*arguments)
        assert end.code == 0
        listed = [line.split()[0] for line in end.out.splitlines() if line.startswith("  ")]
        assert set(listed) >= VERBS
        assert "completion" not in end.out


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(edgekit: Edgekit, verb: str) -> None:
    end = edgekit(verb, "--help")
    assert end.code == 0
    assert end.out.startswith(f"Usage: edgekit {verb}")


def test_without_a_verb_there_is_help(edgekit: Edgekit) -> None:
    end = edgekit()
    assert end.code == 2
    assert end.err.startswith("Usage: edgekit")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bogus"], "No such option: --bogus; see edgekit --help"),
        (["verfy", "x"], "'verify'"),
        (["verify"], "Missing argument 'BUNDLE'; see edgekit verify --help"),
        (["targets", "--jsn"], "--json"),
        (["targets", "extra"], "extra"),
        (["bench", "x", "--runs", "many"], "Invalid value for '--runs': "),
    ],
)
def test_a_wrong_command_line_is_one_line(
    edgekit: Edgekit, arguments: list[str], message: str
) -> None:
    end = edgekit(*arguments)
    assert end.code == 2
    assert end.err.startswith("error: ")
    assert message in end.err
    assert len(end.err.splitlines()) == 1


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and "error" in kind.__module__
    ],
    ids=lambda kind: kind.__name__,
)
def test_every_error_is_one_line_and_its_code(
    edgekit: Edgekit, monkeypatch: pytest.MonkeyPatch, kind: type[errors.EdgekitError]
) -> None:
    ending_with(monkeypatch, kind.__new__(kind, "what to do"))
    end = edgekit("targets")
    assert (end.code, end.out, end.err) == (kind.exit_code, "", "error: what to do\n")


def test_ctrl_c_ends_with_130(edgekit: Edgekit, monkeypatch: pytest.MonkeyPatch) -> None:
    ending_with(monkeypatch, KeyboardInterrupt())
    assert edgekit("targets").code == 130


def test_a_bug_asks_for_a_report(edgekit: Edgekit, monkeypatch: pytest.MonkeyPatch) -> None:
    ending_with(monkeypatch, ZeroDivisionError("division by zero"))
    end = edgekit("targets")
    assert end.code == 70
    assert end.err.startswith("error: a bug in edgekit: ZeroDivisionError: division by zero\n")
    assert "Traceback" not in end.err
    monkeypatch.setenv("EDGEKIT_DEBUG", "1")
    assert "Traceback" in edgekit("targets").err


@pytest.mark.parametrize("arguments", [["targets"], ["targets", "--json"], ["architectures"]])
def test_a_reader_that_went_away_ends_it_quietly(arguments: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run([*COMMAND, *arguments], stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_full_disk_under_stdout_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "targets"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: the disk is full")
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_stdout_is_no_bug() -> None:
    command = ["sh", "-c", '"$@" >&-', "sh", *COMMAND, "targets"]
    done = subprocess.run(command, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_terminal_without_the_letters_shows_escapes() -> None:
    code = (
        "from edgekit.cli import main as m; m._invoke = lambda a: print('château') or 0; m.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == rb"ch\xe2teau" + b"\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_unwinds_the_stack(number: signal.Signals, tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom edgekit.cli import main as m\n"
        "def work(arguments):\n"
        "    try:\n"
        "        print('ready', flush=True); time.sleep(60)\n"
        "    finally:\n"
        "        Path(sys.argv[1]).write_text('cleaned up')\n"
        "m._invoke = work\nsys.exit(m.main())"
    )
    done = tmp_path / "done"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(done)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert done.read_text() == "cleaned up"
    assert b"Traceback" not in err


HEAVY = ("torch", "cv2", "onnxruntime", "onnx", "ai_edge_litert", "av", "numpy", "rich", "pydantic")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from edgekit.cli.main import main; main(['--help'])\n"
        f"print('loaded:', *sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_help_takes_about_a_third_of_a_second() -> None:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([*COMMAND, "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 1, "0.3 s on an idle machine; the rest is room for a busy one"
