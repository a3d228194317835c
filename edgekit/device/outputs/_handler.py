"""How the live page answers: three paths, and GET alone.

| path | answer |
|---|---|
| `/` | the page |
| `/picture.jpg?stream=S&run=R&after=N` | the first picture after number N, when there is one; 204 \
after a second without. The answer to that frame is in a header |
| `/numbers.json?stream=S` | all other numbers |
"""

import hashlib
import io
import json
import re
from base64 import b64encode
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from edgekit.device.outputs._streams import answer

if TYPE_CHECKING:
    from edgekit.device.outputs._server import Server

REQUEST_S = 15.0
"""For a connection to bring its next request, whole."""
_ANSWER_S = 8.0
"""For an answer to be made and taken."""
_NEXT_PICTURE_S = 1.0
_REQUEST_BYTES = 16 << 10
_PLAIN = "text/plain; charset=utf-8"


class _Short(io.BufferedReader):
    """Reads a request, and no more than so many bytes of it."""

    left = _REQUEST_BYTES

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(self.left + 1)
        self.left -= len(line)
        if self.left < 0:
            raise ConnectionAbortedError("the request is too long")
        return line


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: "Server"
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = self._request = _Short(self.connection.makefile("rb", buffering=0))

    def handle_one_request(self) -> None:
        self._request.left = _REQUEST_BYTES
        self.server.allow(self.connection, REQUEST_S)
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


def policy(page: bytes) -> str:
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
