"""Every error that edgekit raises on purpose, and the exit code each one ends a command with.

EdgekitError                    1
├── CheckFailed                 1   a check was made and did not hold
│   ├── ParityError             1   the artifact does not match the trained model
│   └── IntegrityError          1   bytes are not those that were built, or published
├── InputError                  2   what the user gave cannot be used
│   ├── UnknownName             2   no such target, model, backend, camera ...
│   ├── SpecError               2   a tensor, an image contract or a setting does not fit
│   ├── CheckpointError         2   weights or their card: missing, damaged, wrong shapes
│   ├── BundleError             2   not a bundle, or one of a version we cannot read
│   ├── ImageError              2   an image or a clip that cannot be decoded
│   └── StorageError            2   a disk that is full, a folder that cannot be written
├── MissingPackage              3   names the extra to install
├── SourceUnavailable          69   a camera or device that is not there or went away
└── NetworkUnavailable         69   a server that cannot be reached, or does not have the file

A message says what was given, what would be right, and what to do. Errors of other libraries are
translated where they enter (`raise ... from error`), so the cause is kept.
"""

import errno
import os
from collections.abc import Iterable
from pathlib import Path


class EdgekitError(Exception):
    """The root of the tree; `exit_code` is what the command line ends with."""

    exit_code = 1


class CheckFailed(EdgekitError):
    """A check was made and did not hold."""


class ParityError(CheckFailed):
    """The artifact does not match the trained model: names the hop and the layer."""


class IntegrityError(CheckFailed):
    """A bundle's bytes are not those that were built, or a file's not those that were published."""


class InputError(EdgekitError):
    """What the user gave cannot be used."""

    exit_code = 2


class UnknownName(InputError):
    """A name that is not in the list; the message lists the names and suggests the nearest."""

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        import difflib  # here, where a command ends: every start would pay for it

        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        listed = ", ".join(names) if names else "none"
        super().__init__(f"no {kind} '{name}'{hint}; there are: {listed}")


class SpecError(InputError):
    """A tensor, an image contract or a setting does not fit."""


class CheckpointError(InputError):
    """Weights or their card are missing, damaged, or of other names and shapes."""


class BundleError(InputError):
    """Not a bundle, or one of a version that this edgekit cannot read."""


class ImageError(InputError):
    """An image or a clip that cannot be decoded."""


class StorageError(InputError):
    """A disk that is full, or a folder that cannot be written."""

    @classmethod
    def from_os(cls, error: OSError, path: str | os.PathLike[str]) -> "StorageError":
        """Translate an `OSError` met while writing `path`."""
        reason = {
            errno.ENOSPC: "the disk is full: free some space, or choose another folder with -o",
            errno.EDQUOT: "the disk quota is used up: free some space, or choose another folder",
            errno.EACCES: "no permission to write there: choose another folder with -o",
            errno.EROFS: "that file system is read-only: choose another folder with -o",
        }.get(error.errno or 0, error.strerror or str(error))
        return cls(f"cannot write {Path(path)}: {reason}")


class MissingPackage(EdgekitError):
    """A package that this verb needs is not installed; names the extra that brings it."""

    exit_code = 3

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed; "
            f"install it with: pip install 'edgekit[{extra}]'"
        )


class SourceUnavailable(EdgekitError):
    """A camera or device that is not there, is busy, or went away."""

    exit_code = 69


class NetworkUnavailable(EdgekitError):
    """A server that cannot be reached, breaks off again and again, or does not have the file."""

    exit_code = 69
