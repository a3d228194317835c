"""The server of the live page: three paths, GET alone, and every wait and count bounded.

| path | answer |
|---|---|
| `/` | the page |
| `/picture.jpg?stream=S&run=R&after=N` | the first picture after number N, as soon as there is one; the answer to that frame is in a header. 204 if there is none for a second |
| `/numbers.json?stream=S` | all other numbers |

A viewer is slow at its own cost: it asks for the next picture when it has the one before, so it
gets fewer. Each connection has a thread and a deadline for what it is doing; past that it is cut.
"""  # noqa: E501

import contextlib
import hashlib
import io
import json
import os
import re
import socket
import socketserver
import threading
import time
from base64 import b64encode
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from edgekit.device.outputs._address import Address, Door
from edgekit.device.outputs._streams import Streams, answer

_REQUEST_S = 15.0
"""For a connection to bring its next request, whole."""
_ANSWER_S = 8.0
"""For an answer to be made and taken."""
_NEXT_PICTURE_S = 1.0
_SEAT_S = 5.0
"""How long a viewer that asks for nothing keeps its place."""
_REQUEST_BYTES = 16 << 10
_PER_VIEWER = 4
"""Connections: a browser opens up to six, and uses two."""
_CLOSE_S = 1.5
_POLL_S = 0.1
_PLAIN = "text/plain; charset=utf-8"


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
        self.policy = _policy(page)
        self._lock = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}
        self._threads: set[threading.Thread] = set()
        super().__init__((address.ip, address.port), _Handler)
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
        self.allow(request, _REQUEST_S)
        thread = threading.Thread(
            target=self._serve, args=(request, client_address), name="live page", daemon=True
        )
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def service_actions(self) -> None:
        """Cut who is past the deadline; called every `_POLL_S`."""
        self._cut(time.monotonic())

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
                self._threads.discard(threading.current_thread())
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


class _Short(io.BufferedReader):
    """Reads a request, and no more than so many bytes of it."""

    left = _REQUEST_BYTES

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(self.left + 1)
        self.left -= len(line)
        if self.left < 0:
            raise ConnectionAbortedError("the request is too long")
        return line


class _Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = self._request = _Short(self.connection.makefile("rb", buffering=0))

    def handle_one_request(self) -> None:
        self._request.left = _REQUEST_BYTES
        self.server.allow(self.connection, _REQUEST_S)
        super().handle_one_request()

    def parse_request(self) -> bool:
        """Read the request, and refuse what no viewer of this page asks for."""
        if not super().parse_request():
            return False
        self.server.allow(self.connection, _ANSWER_S)
        if self.command != "GET":
            self.send_error(405, "only GET is answered")
        elif (
            self.headers.get("Transfer-Encoding") or self.headers.get("Content-Length", "0") != "0"
        ):
            self.send_error(400, "a GET has no body")
        else:
            return True
        return False

    def do_GET(self) -> None:
        try:
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query, max_num_fields=8))
        except ValueError:
            return self.send_error(400, "that is no path of this page")
        if not self.server.door.answers_to(self.headers.get("Host", "")):
            return self.send_error(421, "this page does not answer to that name; use its address")
        if self.headers.get("Sec-Fetch-Site") == "cross-site" and url.path != "/":
            return self.send_error(403, "only this page itself may ask for that")
        if not self._known(query.get("token", "")):
            return self.send_error(
                403, "this page needs its token: open the whole URL that the run printed"
            )
        if url.path == "/":
            return self._page()
        if url.path not in ("/picture.jpg", "/numbers.json"):
            return self.send_error(404, "there is no such path")
        if not self.server.seats.take(self._viewer(query)):
            return self.send_error(
                503, f"{self.server.seats.most} viewers are watching, and no more may: close one, "
                "or start the run with ?viewers= and a larger number"
            )  # fmt: skip
        try:
            stream = int(query.get("stream", "0"))
            if url.path == "/picture.jpg":
                return self._picture(max(stream, 0), query)
            if self.server.streams.closed:
                return self.send_error(410, "the run has ended")
            text = self.server.streams.text(max(stream, 0), self.server.seats.taken)
        except (ValueError, IndexError):
            return self.send_error(404, "there is no such stream in this run")
        return self._send(200, "application/json", text)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with a line of text, and end the connection."""
        self.close_connection = True
        text = f"{message or self.responses.get(code, ('error',))[0]}\n"
        self._send(code, _PLAIN, text.encode(), {"Connection": "close"})

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: stderr is for the run, and a URL may hold the token."""

    def version_string(self) -> str:
        return "edgekit"

    def _known(self, given: str) -> bool:
        door = self.server.door
        if not door.token or door.knows(given):
            return True
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and door.knows(cookie.value)

    @property
    def _cookie(self) -> str:
        """Its name; cookies are for all ports of a machine, so it holds ours."""
        return f"edgekit_{self.server.port}"

    def _viewer(self, query: Mapping[str, str]) -> str:
        given = query.get("viewer", "")
        return given if re.fullmatch(r"[0-9a-f]{16}", given) else str(self.client_address[0])

    def _page(self) -> None:
        headers = {"Content-Security-Policy": self.server.policy, "X-Frame-Options": "DENY"}
        if token := self.server.door.token:
            # The page then removes the token from the address bar. Not by a redirect: after a
            # click on another site's link, a browser would not send a strict cookie along.
            headers["Set-Cookie"] = f"{self._cookie}={token}; Path=/; HttpOnly; SameSite=Strict"
        self._send(200, "text/html; charset=utf-8", self.server.page, headers)

    def _picture(self, place: int, query: Mapping[str, str]) -> None:
        streams = self.server.streams
        after = int(query.get("after", "0")) if query.get("run") == streams.run else 0
        stream = streams.get(place, _NEXT_PICTURE_S)
        found = stream.view.newer(after, _NEXT_PICTURE_S) if stream else None
        if streams.closed:
            return self.send_error(410, "the run has ended")
        if found is None:
            return self._send(204, "", b"")
        about = {"run": streams.run, "number": found.number, **answer(found.result)}
        return self._send(200, "image/jpeg", found.jpeg, {"Edgekit-Answer": json.dumps(about)})

    def _send(
        self, status: int, kind: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        for name, value in {**_ALWAYS, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


_ALWAYS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",  # no other site may show the picture
    "Referrer-Policy": "no-referrer",  # nor learn the token
    "X-Content-Type-Options": "nosniff",
}


def _policy(page: bytes) -> str:
    """What the page may do: run its own script and style, ask this server, and nothing else."""
    hashes = {}
    for tag in (b"script", b"style"):
        (content,) = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
        hashes[tag] = b64encode(hashlib.sha256(content).digest()).decode()
    return (
        "default-src 'none'; connect-src 'self'; img-src blob: data:; "
        f"script-src 'sha256-{hashes[b'script']}'; style-src 'sha256-{hashes[b'style']}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
