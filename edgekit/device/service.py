"""A systemd unit that runs a bundle on a camera from boot on, and starts it again when it fails.

The unit is text for a person to read and install; nothing is installed from here.
"""

import grp
import os
import pwd
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.device.shown import shown
from edgekit.device.uri import parse_output, parse_source
from edgekit.errors import SpecError

WATCHDOG_S = 60
"""Without an answer for so long, the program is ended and started again. A camera that is gone is
waited for, for half of it."""
BY_ID = Path("/dev/v4l/by-id")
"""Links to cameras by their makers' names and numbers."""
_FILES = ("dir", "file", "image")
_SOCKET_IN_TMP = ("csi", "gst")  # a Jetson's camera daemon is met at /tmp/argus_socket
_NETWORK = ("rtsp", "http", "https", "gst")
_GROUPS = ("video", "render")  # who may open cameras, and GPUs
_HARDENED = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "LockPersonality=yes",
    "ProtectControlGroups=yes",
    "ProtectHome=read-only",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectSystem=strict",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "UMask=0027",
)


@dataclass(frozen=True, slots=True)
class Job:
    """What a service runs."""

    name: str
    """Of the bundle, for people."""
    command: tuple[str, ...]
    """The program and its arguments; every path absolute."""
    sources: tuple[str, ...]
    writes: tuple[Path, ...]
    """Folders that it writes to."""


def job(
    words: Sequence[str],
    bundles: Sequence[Path],
    sources: Sequence[str],
    outputs: Sequence[str],
    program: Sequence[str],
) -> Job:
    """The job of a command line of `edgekit run`.

    Args:
        words: all that stands after `run`.
        bundles: those among them, the one that gives the service its name first.
        sources: likewise.
        outputs: likewise.
        program: what stands before `run`.

    Raises:
        ImageError: a source that is a path where there is nothing.
        SpecError: an output that needs a screen.
        StorageError: an output that is not a kind of file that can be written.
    """
    whole = {str(folder): str(folder.absolute()) for folder in bundles}
    whole |= {text: absolute_source(text) for text in sources}
    writes = []
    for text in outputs:
        whole[text], folder = absolute_output(text)
        writes += [folder] if folder else []
    command = (*program, "run", *(_replaced(word, whole) for word in words))
    return Job(
        bundles[0].absolute().name, command, tuple(whole[it] for it in sources), tuple(writes)
    )


def me() -> str:
    """The name of the user who asks; empty for root, who should not run a service."""
    return "" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def groups() -> tuple[str, ...]:
    """The groups of this machine."""
    return tuple(group.gr_name for group in grp.getgrall())


def absolute_source(text: str) -> str:
    """A source that means the same from every folder.

    Raises:
        ImageError: a path where there is nothing.
    """
    uri = parse_source(text)
    return _absolute(text, uri.place) if uri.scheme in _FILES else text


def absolute_output(text: str) -> tuple[str, Path | None]:
    """An output that means the same from every folder, and the folder that it writes to.

    Raises:
        SpecError: a service has no screen.
        StorageError: not a kind of file that can be written.
    """
    uri = parse_output(text)
    if uri.scheme == "display":
        raise SpecError(
            f"a service has no screen for {text}; show it on a page, as -o http://127.0.0.1:8080"
        )
    if uri.scheme not in ("file", "json") or uri.place in ("", "-"):
        return text, None
    return _absolute(text, uri.place), Path(uri.place).absolute().parent


def unit(job: Job, user: str, groups: Sequence[str] = ()) -> str:
    """The text of the unit.

    Args:
        job: what it runs.
        user: who runs it; empty: a user of its own that systemd makes.
        groups: the groups that there are on this machine; of those for cameras, `video` is named
            in any case, others only if they exist, for a unit with an unknown group does not start.

    Raises:
        SpecError: files are to be written, by a user that does not exist yet.
    """
    if job.writes and not user:
        raise SpecError(
            f"the service writes to {job.writes[0]}: say whose files these are, as --user pi"
        )
    schemes = {parse_source(text).scheme for text in job.sources}
    network = "network-online.target" if schemes & {*_NETWORK} else ""
    names = " ".join(name for name in _GROUPS if name == "video" or name in groups)
    private_tmp = "no" if schemes & {*_SOCKET_IN_TMP} else "yes"
    lines = [
        *_notes(job),
        "[Unit]",
        f"Description=edgekit: {_plain(job.name)}",
        *([f"Wants={network}", f"After={network}"] if network else []),
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        "ExecStart=" + " ".join(quoted(word) for word in job.command),
        *([f"User={user}"] if user else ["DynamicUser=yes"]),
        f"SupplementaryGroups={names}",
        "",
        "# It says that it is ready, and that it lives, when it has answered a frame.",
        "TimeoutStartSec=180",
        f"WatchdogSec={WATCHDOG_S}",
        "Restart=on-failure",
        "RestartSec=5",
        "# What was asked for makes no sense (2), or a package is missing (3): do not retry.",
        "RestartPreventExitStatus=2 3",
        "SuccessExitStatus=130 143",
        "KillMode=mixed",
        "TimeoutStopSec=10",
        "",
        "# Devices stay open, for cameras, GPUs and NPUs have many names; memory may be made",
        "# executable, for runtimes compile when they load a model.",
        *_HARDENED,
        f"PrivateTmp={private_tmp}",
        "CacheDirectory=edgekit",
        "Environment=XDG_CACHE_HOME=%C/edgekit",
        *(f"ReadWritePaths={quoted(str(folder))}" for folder in dict.fromkeys(job.writes)),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def quoted(word: str) -> str:
    """A word of a systemd command line, with nothing in it that systemd would read as its own.

    Raises:
        SpecError: it has a line break or another control character in it.
    """
    if re.search(r"[\x00-\x1f\x7f]", word):
        raise SpecError(f"a unit cannot hold the control character in {word!r}")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[\w@%+=:,./-]+", escaped) else f'"{escaped}"'


def file_name(name: str) -> str:
    """What to call the unit of a bundle of this name."""
    return f"edgekit-{re.sub(r'[^A-Za-z0-9_.-]+', '-', name).strip('-') or 'bundle'}.service"


def _notes(job: Job) -> list[str]:
    called = file_name(job.name)
    notes = [
        f"# Install: save this as /etc/systemd/system/{called}, then",
        f"#   sudo systemctl daemon-reload && sudo systemctl enable --now {called}",
        f"# Watch: systemctl status {called}; journalctl -fu {called}",
    ]
    for text in job.sources:
        steady = _by_id(text)
        if steady:
            notes.append(f"# {text} may be another camera after a restart; by its name it is")
            notes.append(f"#   {steady}")
        if shown(text) != text:
            notes.append("# It holds a password: let root alone read it (chmod 600).")
    return notes


def _by_id(text: str) -> str:
    """The same camera by its lasting name; empty if it has none, or is named so."""
    uri = parse_source(text)
    device = Path(uri.place or "/dev/video0")
    if uri.scheme != "v4l2" or device.parent == BY_ID or not BY_ID.is_dir() or not device.exists():
        return ""
    links = sorted(link for link in BY_ID.iterdir() if link.exists() and link.samefile(device))
    return f"v4l2://{links[0]}" if links else ""


def _absolute(text: str, place: str) -> str:
    return text.replace(place, str(Path(place).absolute()), 1)


def _replaced(word: str, whole: Mapping[str, str]) -> str:
    """A word of a command line with the whole path in it, be it `WORD` or `--option=WORD`."""
    option, separator, value = word.partition("=")
    if word not in whole and option.startswith("--") and value in whole:
        return option + separator + whole[value]
    return whole.get(word, word)


def _plain(name: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", " ", name).replace("%", "%%")
