"""Ask a server: over https only, and with every failure turned into one of two kinds.

An attempt that broke off is `Broken`, and may be made again; what trying again would not mend is
`NetworkUnavailable`.
"""

import http.client
import socket
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit

from edgekit import __version__
from edgekit.errors import InputError, NetworkUnavailable

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP answers that may be others a little later."""


class Broken(Exception):
    """An attempt that ended before the file did, and may be made again."""


def opener(allow_http: bool) -> urllib.request.OpenerDirector:
    """What opens URLs here; redirects are held to `check_scheme` too."""
    return urllib.request.build_opener(_Redirects(allow_http))


def request(url: str, headers: Mapping[str, str]) -> urllib.request.Request:
    """A request that says who asks, and for the bytes as they are."""
    usual = {"User-Agent": f"edgekit/{__version__}", "Accept-Encoding": "identity"}
    return urllib.request.Request(url, headers={**usual, **headers})


@contextmanager
def translated(url: str) -> Iterator[None]:
    """What urllib raises -> `Broken` if trying again may help, else NetworkUnavailable."""
    try:
        yield
    except HTTPError as error:
        error.close()
        said = f"the server answered {error.code} {error.reason}"
        if error.code in PASSING:
            raise Broken(said) from error
        raise gone(url, said) from error
    except URLError as error:
        cause = error.reason
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise gone(url, f"its certificate is not valid: {cause.verify_message}") from error
        if isinstance(cause, socket.gaierror):
            host = urlsplit(url).hostname
            raise gone(url, f"no address for {host}: {cause.strerror}") from error
        raise Broken(_reason(cause)) from error
    except (http.client.InvalidURL, ValueError) as error:  # also of where a server sends on to
        raise gone(url, str(error)) from error
    except (OSError, http.client.HTTPException) as error:
        raise Broken(_reason(error)) from error


def _reason(cause: object) -> str:
    if isinstance(cause, TimeoutError):
        return "the server sent nothing for too long"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if isinstance(cause, http.client.IncompleteRead | ConnectionError):
        return "the connection was cut"
    return str(cause) or type(cause).__name__


def gone(url: str, reason: str) -> NetworkUnavailable:
    """The error that ends it, with what the user can do."""
    return NetworkUnavailable(
        f"cannot get {url}: {reason}; try again later (what came is kept), or give a folder or "
        "server that has the file with --mirror"
    )


def check_scheme(url: str, allow_http: bool) -> None:
    """Raise InputError unless `url` is https, or http from loopback or with `allow_http`."""
    with suppress(ValueError):  # what is no address at all
        parts = urlsplit(url)
        allowed = ("https", "http") if allow_http or parts.hostname in LOOPBACK else ("https",)
        is_plain = url.isascii() and url.isprintable() and " " not in url
        if parts.scheme in allowed and parts.hostname and parts.port != 0 and is_plain:
            return
    raise InputError(
        f"'{url}' is not fetched: only https://HOST/... is (or http, from this machine itself or "
        "from a mirror that you name), with a space written as %20; give a mirror's folder or "
        "address with --mirror"
    )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to what would have been fetched in the first place: never to a file or to FTP."""

    def __init__(self, allow_http: bool):
        self._allow_http = allow_http

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        target = urljoin(req.full_url, newurl)
        try:
            check_scheme(target, self._allow_http)
        except InputError as error:
            raise gone(req.full_url, f"it sends on to '{target}', which is not https") from error
        return super().redirect_request(req, fp, code, msg, headers, newurl)
