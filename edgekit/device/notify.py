"""Tell systemd that the loop answers frames: `sd_notify`, without a library.

The protocol is a datagram of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names; see
sd_notify(3). Only answers are told, never that a process or a thread merely lives: a loop whose
camera, model or output hangs falls silent, and systemd's watchdog starts it again.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping

_STATUS_NS = 10_000_000_000  # without a watchdog: the status alone, so seldom


class Notifier:
    """Says that frames are answered; where no systemd listens, every call does nothing.

        with Notifier() as notifier:
            for result in loop:
                notifier.answered(lambda: loop.summary().line)

    One thread uses it.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Find the socket; no message yet.

        Args:
            environment: with `NOTIFY_SOCKET`, and `WATCHDOG_USEC` if answers are waited for.
        """
        self._socket: socket.socket | None = None
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)  # a full socket must not hold the loop
        watchdog_ns = _watchdog_ns(environment)
        self._watched = watchdog_ns > 0
        self._every_ns = watchdog_ns // 2 or _STATUS_NS
        self._next_ns = 0
        self._ready = False

    def answered(self, status: Callable[[], str] | None = None) -> None:
        """A frame was answered. The first says that the service is ready.

        Sends at most one message in half of the watchdog's time; otherwise this costs a look at
        the clock.

        Args:
            status: makes a line for `systemctl status`; called only if a message is sent.
        """
        if self._socket is None:
            return
        now = time.monotonic_ns()
        if now < self._next_ns:
            return
        self._next_ns = now + self._every_ns
        lines = [] if self._ready else ["READY=1"]
        lines += ["WATCHDOG=1"] if self._watched else []
        if status is not None:
            lines.append("STATUS=" + status().replace("\n", " "))
        self._ready = self._send(lines) or self._ready

    def stopping(self) -> None:
        """The service ends."""
        self._send(["STOPPING=1"])

    def close(self) -> None:
        """Say that the service ends, and close the socket; closing again does nothing."""
        if self._socket is not None:
            self.stopping()
            self._socket.close()
            self._socket = None

    def __enter__(self) -> "Notifier":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, lines: list[str]) -> bool:
        """Whether systemd took it."""
        if self._socket is None or not lines:
            return False
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:  # nobody listens any more, or it is full: inferring matters more
            return False
        return True


def _address(name: str) -> str:
    """What `sendto` takes; empty for what is not a Unix socket (a virtual machine's vsock)."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""


def _watchdog_ns(environment: Mapping[str, str]) -> int:
    """How long systemd waits for an answer; 0 if it does not, or not for this process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) * 1000 if text.isdigit() else 0
