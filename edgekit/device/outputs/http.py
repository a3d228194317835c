"""`http://127.0.0.1:8080`: a live page for a browser: picture, answers, rates, ages, copies, heat.

Only this machine can open it, unless another address is given (`http://0.0.0.0:8080`): then the URL
that is printed holds a token, and nobody gets in without. It takes part in the loop only while
somebody watches, and then by one small copy of at most ten frames a second: see `_picture`.
"""

import secrets
import sys
from importlib.resources import files

from edgekit.device.copies import Copies
from edgekit.device.outputs._address import door, read_address, url
from edgekit.device.outputs._picture import Encoder, View
from edgekit.device.outputs._server import Seats, Server
from edgekit.device.outputs._streams import Streams
from edgekit.device.result import Result
from edgekit.device.shown import shown
from edgekit.device.uri import Uri
from edgekit.errors import SourceUnavailable


def open_output(uri: Uri, copies: Copies) -> "LivePage":
    """Listen, and print the page's URL on stderr.

    Options: `token` (16 characters or more, to choose it, or to need one on loopback too),
    `viewers` (at once; 8), `fps` (pictures a second, at most; 10), `width` (the longer side of the
    picture, at most, in pixels; 640).

    Raises:
        SpecError: the address or an option is not as above.
        InputError: the host's name is not known.
        SourceUnavailable: the port is taken, or the address is not this machine's.
        MissingPackage: OpenCV is not installed.
    """
    uri.only("token", "viewers", "fps", "width")
    viewers = int(uri.number("viewers", 8, 1, 64))
    rate = uri.number("fps", 10, 0.1, 60)
    longest = int(uri.number("width", 640, 64, 1920))
    address = read_address(uri)
    allowed = door(address, uri.options.get("token", ""))
    page = files("edgekit.device.outputs").joinpath("http.html").read_bytes()
    encoder = Encoder()
    streams = Streams(secrets.token_hex(4), viewers, lambda: View(encoder, longest, rate, copies))
    try:
        server = Server(address, allowed, page, streams, Seats(viewers))
    except OSError as error:
        encoder.close()
        raise SourceUnavailable(
            f"cannot listen at '{shown(uri.text)}': {error.strerror}; give an address of this "
            "machine and a free port, or port 0 for any that is free"
        ) from error
    server.start()
    print(f"live page: {url(address, server.port, allowed.token)}", file=sys.stderr, flush=True)
    return LivePage(server, streams, encoder)


class LivePage:
    """A page that shows the newest results to whoever looks."""

    def __init__(self, server: Server, streams: Streams, encoder: Encoder) -> None:
        self._server, self._streams, self._encoder = server, streams, encoder
        self._open = True

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    def write(self, result: Result) -> bool:
        """Note the numbers, and copy a small picture if somebody waits for one; go on."""
        self._streams.add(result)
        return True

    def close(self) -> None:
        """Stop listening and end all threads, within two seconds; closing again does nothing."""
        if self._open:
            self._open = False
            self._streams.close()
            self._server.close()
            self._encoder.close()
