"""The server of the live page: who is connected, who watches, and until when.

A viewer is slow at its own cost: it asks for the next picture when it has the one before, so it
gets fewer. Each connection has a thread and a deadline for what it is doing; past that it is cut.
"""

import contextlib
import os
import socket
import socketserver
import threading
import time
from typing import Any

from edgekit.device.outputs._address import Address, Door
from edgekit.device.outputs._handler import REQUEST_S, Handler, policy
from edgekit.device.outputs._streams import Streams

_SEAT_S = 5.0
"""How long a viewer that asks for nothing keeps its place."""
_PER_VIEWER = 4
"""Connections: a browser opens up to six, and uses two."""
_CLOSE_S = 1.5
_POLL_S = 0.1


class Seats:
    """Who is watching: so many at once, each known by a key. Thread-safe."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, key: str) -> bool:
        """Keep a place for `key`; False if all are taken."""
        now = time.monotonic()
        with self._lock:
            self._seen = {k: at for k, at in self._seen.items() if now - at < _SEAT_S}
            if key not in self._seen and len(self._seen) >= self.most:
                return False
            self._seen[key] = now
            return True

    @property
    def taken(self) -> int:
        """How many watch."""
        now = time.monotonic()
        with self._lock:
            return sum(now - at < _SEAT_S for at in self._seen.values())


class Server(socketserver.TCPServer):
    """Listens, and gives each connection a thread; `start` and `close` are its life."""

    allow_reuse_address = os.name == "posix"  # on Windows it would let two listen at once
    request_queue_size = 16

    def __init__(
        self, address: Address, door: Door, page: bytes, streams: Streams, seats: Seats
    ) -> None:
        """Listen.

        Raises:
            OSError: the address is not this machine's, or the port is taken.
        """
        self.address_family = address.family
        self.door, self.page, self.streams, self.seats = door, page, streams, seats
        self.policy = policy(page)
        self._lock = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}
        self._threads: set[threading.Thread] = set()
        super().__init__((address.ip, address.port), Handler)
        self.port = int(self.socket.getsockname()[1])
        self._accepting = threading.Thread(
            target=self.serve_forever, args=(_POLL_S,), name="live page", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._accepting.start()

    def close(self) -> None:
        """Cut all connections and end all threads, within two seconds."""
        until = time.monotonic() + _CLOSE_S
        self._join(time.monotonic() + 0.3)  # who asks, or waits, is told that the run has ended
        self.shutdown()
        self._accepting.join()
        self.server_close()
        self._cut(past=float("inf"))
        self._join(until)

    def allow(self, connection: socket.socket, seconds: float) -> None:
        """Give a connection so much time from now for what it does next."""
        with self._lock:
            self._deadlines[connection] = time.monotonic() + seconds

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread, unless there are too many."""
        if len(self._deadlines) >= _PER_VIEWER * (self.seats.most + 2):
            self.shutdown_request(request)
            return
        self.allow(request, REQUEST_S)
        thread = threading.Thread(
            target=self._serve, args=(request, client_address), name="live page", daemon=True
        )
        with self._lock:  # started under it: a thread that has not started cannot be joined
            self._threads.add(thread)
            thread.start()

    def service_actions(self) -> None:
        """Cut who is past the deadline, forget the threads that have ended; every `_POLL_S`."""
        self._cut(time.monotonic())
        with self._lock:
            self._threads = {thread for thread in self._threads if thread.is_alive()}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A viewer that went away is no error of ours."""

    def _serve(self, connection: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(connection, client_address)
        except OSError:
            pass  # the viewer went away, or was cut
        finally:
            with self._lock:
                self._deadlines.pop(connection, None)
            self.shutdown_request(connection)

    def _cut(self, past: float) -> None:
        with self._lock:
            late = [c for c, deadline in self._deadlines.items() if deadline < past]
            for connection in late:
                with contextlib.suppress(OSError):  # gone already
                    connection.shutdown(socket.SHUT_RDWR)  # wakes its thread

    def _join(self, until: float) -> None:
        with self._lock:
            threads = tuple(self._threads)
        for thread in threads:
            thread.join(max(until - time.monotonic(), 0.0))
