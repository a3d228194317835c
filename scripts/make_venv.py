"""Make `.venv` and install edgekit into it with every extra, in one pip resolution.

A stamp inside says what it was made from; without the right one the work is done again. One
process at a time: the others wait and then find it done. What was interrupted is made anew.
Runs on the standard library alone, under the Python that the environment shall have.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "edgekit-stamp"
UNFINISHED = VENV / "edgekit-unfinished"
EXTRAS = "host,dev"  # host brings camera, litert and onnx


def fingerprint() -> str:
    """What the environment is made from: the dependencies, the Python, and where it lies."""
    parts = ((ROOT / "pyproject.toml").read_bytes(), sys.version.encode(), os.fsencode(VENV))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def ready() -> bool:
    """Whether the stamp is that of this tree and of the running Python."""
    try:
        return STAMP.read_text() == fingerprint()
    except OSError:
        return False


def version_of(python: str) -> str:
    """`sys.version` of another Python, or "" where it does not run."""
    command = [python, "-I", "-c", "import sys; print(end=sys.version)"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def unusable() -> str:
    """Why an environment that is there cannot be built upon; "" where it can, or there is none."""
    if not VENV.exists():
        return ""
    if UNFINISHED.exists():
        return "was left unfinished"
    if version_of(str(VENV / "bin" / "python")) != sys.version:
        return "is of another Python"
    pip = VENV / "bin" / "pip"  # commands in an environment name the place where it was made
    if not pip.exists() or os.fsencode(VENV) not in pip.read_bytes():
        return "was made in another place"
    return ""


def make() -> None:
    """Create the environment where it is missing or unusable; install into it."""
    if reason := unusable():
        print(f"setup: removing .venv, which {reason}", file=sys.stderr)
        shutil.rmtree(VENV)
    if not VENV.exists():
        VENV.mkdir()
        UNFINISHED.touch()
        venv.create(VENV, with_pip=True)
    UNFINISHED.touch()
    STAMP.unlink(missing_ok=True)
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", *quiet]
    command += ["--disable-pip-version-check", "--editable", f"{ROOT}[{EXTRAS}]"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    partial = STAMP.with_suffix(".part")
    partial.write_text(fingerprint())
    partial.replace(STAMP)
    UNFINISHED.unlink()


def main() -> int:
    """Make the environment under a lock that dies with its holder."""
    with (ROOT / ".setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if ready():  # another process made it while this one waited
            return 0
        start = time.monotonic()
        print("setup: installing into .venv (3 GB, some minutes, once)", file=sys.stderr)
        try:
            make()
        except subprocess.CalledProcessError as error:
            UNFINISHED.unlink(missing_ok=True)  # pip gave up by itself and left things whole
            print(f"error: pip ended with {error.returncode}, as said above", file=sys.stderr)
            return 1
        except OSError as error:
            print(f"error: cannot make {VENV}: {error}", file=sys.stderr)
            return 1
    print(f"setup: done in {time.monotonic() - start:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ready"]:
        chosen = sys.argv[2] if len(sys.argv) > 2 else ""
        sys.exit(not (ready() and (not chosen or version_of(chosen) == sys.version)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that pip is ended with it
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("setup: interrupted; run it again", file=sys.stderr)
        sys.exit(130)
