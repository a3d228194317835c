"""What systemd hears of a loop, on a real socket."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.device.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The listening end, and its name."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@edgekit-{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1))
        listening.settimeout(2)
        yield listening, name


def heard(listening: socket.socket) -> list[str]:
    """All messages that wait."""
    listening.setblocking(False)
    messages = []
    while True:
        try:
            messages.append(listening.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_one_message_in_half_of_the_watchdogs_time(
    systemd: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listening, name = systemd
    environment = {
        "NOTIFY_SOCKET": name,
        "WATCHDOG_USEC": "400000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    asked = 0

    def status() -> str:
        nonlocal asked
        asked += 1
        return "30 fps\nand more"

    now = 10**9
    monkeypatch.setattr(time, "monotonic_ns", lambda: now)
    with Notifier(environment) as notifier:
        assert heard(listening) == []  # nothing was answered yet: not ready
        for _ in range(100):  # 0.7 s, an answer every 7 ms
            notifier.answered(status)
            now += 7_000_000
        line = "WATCHDOG=1\nSTATUS=30 fps and more"
        assert heard(listening) == ["READY=1\n" + line, line, line, line]
        assert asked == 4
        now += 10**9
        assert heard(listening) == []  # no answer, no sign of life
    assert heard(listening) == ["STOPPING=1"]
    notifier.close()
    notifier.answered()
    assert heard(listening) == []


@pytest.mark.parametrize("watchdog", [{}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}])
def test_without_a_watchdog_for_this_process(
    systemd: tuple[socket.socket, str], watchdog: dict[str, str]
) -> None:
    listening, name = systemd
    with Notifier({"NOTIFY_SOCKET": name, **watchdog}) as notifier:
        for _ in range(1000):
            notifier.answered()
        assert heard(listening) == ["READY=1"]


@pytest.mark.parametrize("name", ["", "vsock:2:1234"])
def test_without_systemd_nothing_is_done(name: str) -> None:
    with Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000"}) as notifier:
        notifier.answered(lambda: pytest.fail("nobody listens"))


def test_a_socket_that_nobody_reads_holds_nobody(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        with Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2"}) as notifier:
            for _ in range(5000):  # more than a socket holds
                notifier.answered()
            first = listening.recv(4096)
            assert first == b"READY=1\nWATCHDOG=1"
    with Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2"}) as notifier:
        notifier.answered()  # the listener went away
