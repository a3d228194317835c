"""Where the live page listens, and who may open it."""

import hmac
import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass

from edgekit.device.uri import Uri
from edgekit.errors import InputError, SpecError

DEFAULT_PORT = 8080
_SHORTEST_TOKEN = 16
_PLACE = re.compile(r"(?P<host>\[[^\[\]/]+\]|[^:/\[\]]*)(?::(?P<port>\d{1,5}))?/?")


@dataclass(frozen=True, slots=True)
class Address:
    """One address of this machine to listen on."""

    family: socket.AddressFamily
    host: str
    """As it was given; loopback where it was left out."""
    ip: str
    port: int
    """0: any that is free."""

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.ip.partition("%")[0]).is_loopback


@dataclass(frozen=True, slots=True)
class Door:
    """Who may enter: what a request must bring."""

    token: str
    """A secret that the URL or a cookie must hold; empty: none is needed."""
    names: frozenset[str]
    """The names, in lower case, that this page answers to, besides any numeric address."""

    def answers_to(self, host: str) -> bool:
        """Whether a request's `Host` header names this machine.

        Another site can make its own name point here (DNS rebinding) and read the page with the
        visitor's browser; its name then stands in the header. A number cannot be made to point.
        """
        match = _PLACE.fullmatch(host)
        if match is None or not match["host"]:
            return False
        name = match["host"].strip("[]").rstrip(".").lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.names
        return True

    def knows(self, token: str) -> bool:
        """Whether `token` is the right one, in a time that does not tell how much of it is."""
        return hmac.compare_digest(token.encode(), self.token.encode())


def read_address(uri: Uri) -> Address:
    """The address in `http://HOST:PORT`; without a host it is 127.0.0.1, without a port 8080.

    Raises:
        SpecError: it is not of that form.
        InputError: the name of the host is not known.
    """
    match = _PLACE.fullmatch(uri.place)
    if match is None or int(match["port"] or 0) > 65535:
        raise SpecError(
            f"'{uri.text}' must be http://HOST:PORT without a path: http://127.0.0.1:8080 for this "
            "machine alone, http://0.0.0.0:8080 for its network"
        )
    host, port = match["host"].strip("[]") or "127.0.0.1", int(match["port"] or DEFAULT_PORT)
    try:
        family, _, _, _, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise InputError(
            f"'{uri.text}' names the host '{host}', which is not known here ({error.strerror}); "
            "give an address of this machine, or 0.0.0.0 for all of them"
        ) from error
    return Address(family, host, str(found[0]), port)


def door(address: Address, token: str) -> Door:
    """Who may enter at `address`: beyond loopback, only who knows a token.

    Args:
        address: where the page listens.
        token: given by the user; empty: made here if one is needed.

    Raises:
        SpecError: `token` is short, or would have to be escaped in a URL.
    """
    if token and not re.fullmatch(rf"[A-Za-z0-9_-]{{{_SHORTEST_TOKEN},200}}", token):
        raise SpecError(
            f"the token of http:// must be {_SHORTEST_TOKEN} to 200 letters, digits, '-' or '_'; "
            "leave it out and one is made"
        )
    if not token and not address.loopback:
        token = secrets.token_urlsafe(24)
    here = socket.gethostname().lower()
    return Door(token, frozenset({"localhost", address.host.lower(), here, f"{here}.local"}))


def url(address: Address, port: int, token: str) -> str:
    """What to type into a browser; for all addresses of the machine, the one it is known by."""
    host = address.host
    if ipaddress.ip_address(address.ip.partition("%")[0]).is_unspecified:
        host = _own_address(address.family)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


def _own_address(family: socket.AddressFamily) -> str:
    """The address that others reach this machine by; its name, if it is on no network."""
    elsewhere = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"  # kept for examples
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((elsewhere, 9))  # sends nothing: it only picks a way out
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
