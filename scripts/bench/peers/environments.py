"""Make the environments that the peers run in, each from its frozen requirements.

    python -m scripts.bench.peers.environments [NAME ...]

They lie in build/peers/envs; peers whose versions allow it share one. A stamp inside says what an
environment was made from: with the right one nothing is done, without it pip installs what is
missing. `roboflow` takes minutes and seven gigabytes.
"""

import argparse
import hashlib
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
ENVIRONMENTS = Path("build/peers/envs")


def names() -> tuple[str, ...]:
    """Of every environment: the files in `requirements/`."""
    return tuple(sorted(path.stem for path in REQUIREMENTS.glob("*.txt")))


def python(name: str) -> Path:
    """Its interpreter, whether it exists or not."""
    return ENVIRONMENTS / name / "bin" / "python"


def ready(name: str) -> bool:
    """Whether it was made in full from the requirements as they are now."""
    stamp = _stamp(name)
    return stamp.exists() and stamp.read_text() == _fingerprint(name)


def make(name: str) -> None:
    """Install what its requirements name."""
    if not python(name).exists():
        venv.create(ENVIRONMENTS / name, with_pip=True, symlinks=True)
    requirements = str(REQUIREMENTS / f"{name}.txt")
    subprocess.run([python(name), "-m", "pip", "install", "-q", "-r", requirements], check=True)
    _stamp(name).write_text(_fingerprint(name))


def _stamp(name: str) -> Path:
    return ENVIRONMENTS / name / "made-from"


def _fingerprint(name: str) -> str:
    parts = (REQUIREMENTS / f"{name}.txt").read_bytes() + sys.version.encode()
    return hashlib.sha256(parts).hexdigest()


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*names(), []], metavar="NAME")
    given = parser.parse_args()
    for name in given.names or names():
        if not ready(name):
            print(f"making {ENVIRONMENTS / name}", file=sys.stderr, flush=True)
            make(name)


if __name__ == "__main__":
    main()
