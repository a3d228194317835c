"""The systemd unit: its text, what it quotes, and what systemd says of it."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.device import service
from edgekit.device.service import Job, file_name, job, quoted, unit
from edgekit.errors import ImageError, SpecError, StorageError

PROGRAM = (sys.executable, "-m", "edgekit.cli.main")
PLAIN = Job("door", (*PROGRAM, "run", "/b/door", "v4l2:///dev/video0"), ("v4l2:///dev/video0",), ())


def lines(text: str) -> list[str]:
    return text.splitlines()


def test_a_unit() -> None:
    text = unit(PLAIN, "pi")
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    for wanted in (
        "Type=notify",
        f"ExecStart={python} -m edgekit.cli.main run /b/door v4l2:///dev/video0",
        "User=pi",
        "SupplementaryGroups=video",
        "WatchdogSec=60",
        "Restart=on-failure",
        "RestartPreventExitStatus=2 3",
        "ProtectSystem=strict",
        "PrivateTmp=yes",
        "WantedBy=multi-user.target",
    ):
        assert wanted in lines(text)
    assert "DynamicUser" not in text
    assert "DevicePolicy" not in text
    assert "edgekit-door.service" in text
    assert "network-online" not in text


def test_who_runs_it() -> None:
    assert "DynamicUser=yes" in lines(unit(PLAIN, ""))
    assert "SupplementaryGroups=video render" in lines(unit(PLAIN, "", ("render", "audio")))
    with pytest.raises(SpecError, match="say whose files these are, as --user pi"):
        unit(replace(PLAIN, writes=(Path("/srv"),)), "")


def test_what_sources_need() -> None:
    network = unit(replace(PLAIN, sources=("rtsp://u:p@cam/live",)), "pi")
    assert "After=network-online.target" in lines(network)
    assert "chmod 600" in network
    assert "PrivateTmp=no" in lines(unit(replace(PLAIN, sources=("csi://0",)), "pi"))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
@pytest.mark.parametrize("source", ["v4l2:///dev/video0", "rtsp://cam/live?a=1&b=2", "csi://0"])
def test_systemd_understands_it(source: str, tmp_path: Path) -> None:
    strange = tmp_path / "100 % $HOME \"x\" 'y' \\ ü"
    strange.mkdir()
    words = ["bundle", source, "-o", str(strange / "out.mp4"), "--stats"]
    wished = job(words, [Path("bundle")], [source], [words[3]], PROGRAM)
    for user in ("root", ""):
        text = unit(wished if user else replace(wished, writes=()), user)
        path = tmp_path / "edgekit-bundle.service"
        path.write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        said = [line for line in done.stderr.splitlines() if path.name in line]
        assert said == []
        broken = tmp_path / "broken.service"
        broken.write_text(text.replace("Restart=on-failure", "Restart=sometimes"))
        wrong = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(broken)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "sometimes" in wrong.stderr  # it does look


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("plain/path-1.0", "plain/path-1.0"),
        ("two words", '"two words"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("100%", "100%%"),
        ("$HOME", '"$$HOME"'),
        ("a;b", '"a;b"'),
        ("", '""'),
    ],
)
def test_quoting(word: str, expected: str) -> None:
    assert quoted(word) == expected


def test_a_line_break_cannot_be_quoted() -> None:
    with pytest.raises(SpecError, match="control character"):
        quoted("a\nExecStart=/bin/sh")


def test_paths_become_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "photos").mkdir()
    sources = ["clip.mp4?pace=realtime&loop=1", "dir://photos", "v4l2:///dev/video0"]
    outputs = ["out/seen.mp4", "json://log.jsonl", "json://-", "http://127.0.0.1:8080"]
    words = ["b", *sources, "-o", outputs[0], f"--output={outputs[1]}", "-o", outputs[3]]
    found = job(words, [Path("b")], sources, outputs, ("/bin/edgekit",))
    assert found.command == (
        "/bin/edgekit", "run", f"{tmp_path}/b", f"{tmp_path}/clip.mp4?pace=realtime&loop=1",
        f"dir://{tmp_path}/photos", "v4l2:///dev/video0", "-o", f"{tmp_path}/out/seen.mp4",
        f"--output=json://{tmp_path}/log.jsonl", "-o", "http://127.0.0.1:8080",
    )  # fmt: skip
    assert found.writes == (tmp_path / "out", tmp_path)
    assert f"ReadWritePaths={tmp_path}/out" in lines(unit(found, "pi"))


def test_what_a_service_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="a service has no screen"):
        job(["b", "csi://0"], [Path("b")], ["csi://0"], ["display://"], PROGRAM)
    with pytest.raises(StorageError):
        job(["b", "csi://0"], [Path("b")], ["csi://0"], ["out.txt"], PROGRAM)
    with pytest.raises(ImageError, match="no file or folder"):
        job(["b", "gone.mp4"], [Path("b")], ["gone.mp4"], [], PROGRAM)


def test_a_lasting_name_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device, folder = tmp_path / "video0", tmp_path / "by-id"
    device.touch()
    folder.mkdir()
    (folder / "usb-cam").symlink_to(device)
    monkeypatch.setattr(service, "BY_ID", folder)
    text = unit(replace(PLAIN, sources=(f"v4l2://{device}",)), "pi")
    assert f"#   v4l2://{folder}/usb-cam" in text
    text = unit(replace(PLAIN, sources=(f"v4l2://{folder}/usb-cam",)), "pi")
    assert "another camera after a restart" not in text


def test_names_of_units() -> None:
    assert file_name("mobile net/v2") == "edgekit-mobile-net-v2.service"
    assert file_name("//") == "edgekit-bundle.service"
