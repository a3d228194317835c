"""The command line of `scripts/virtual_pi`."""

import argparse
import shlex
import signal
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from edgekit.errors import EdgekitError, InputError
from scripts.virtual_pi_parts import machine, process
from scripts.virtual_pi_parts.kernel import kernel
from scripts.virtual_pi_parts.programs import need
from scripts.virtual_pi_parts.root import root

_SOURCE = "v4l2:///dev/video0"
_TEXT = """Run bundles on an emulated Raspberry Pi: a Cortex-A72 with Debian's arm64 kernel, the
aarch64 wheels of edgekit's device extras, and a test camera (the kernel's vivid) on /dev/video0.

  scripts/virtual_pi BUNDLE...                      the camera demo, with each bundle
  scripts/virtual_pi BUNDLE -- edgekit bench BUNDLE any other command; paths are as here
  scripts/virtual_pi --user BUNDLE                  edgekit verify, as a single process: quicker
"""


def main() -> int:
    """Run what the command line says; returns the exit code."""
    given, command = sys.argv[1:], []
    if "--" in given:
        at = given.index("--")
        given, command = given[:at], given[at + 1 :]
    options = _parse(given)
    if options.prepare:
        need(*machine.QEMU)
        need(*process.QEMU)
        root()
        kernel()
        return 0
    _check(options.bundles, command)
    if options.user:
        return _as_process(options, command)
    return _in_machine(options, command)


def _parse(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "scripts/virtual_pi",
        description=_TEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundles", nargs="*", type=Path, metavar="BUNDLE")
    parser.add_argument("--source", default=_SOURCE, help=f"what the demo looks at ({_SOURCE})")
    parser.add_argument("--frames", type=int, default=30, help="how many, with each bundle (30)")
    parser.add_argument("--out", type=Path, help="a folder for the results; there it may write")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds, for all (600)")
    parser.add_argument("--user", action="store_true", help="a process, not a machine: no camera")
    parser.add_argument("--prepare", action="store_true", help="only fetch what is needed")
    return parser.parse_args(given)


def _check(bundles: list[Path], command: list[str]) -> None:
    if not (bundles or command):
        raise InputError("nothing to run: give a bundle, or a command after --")
    for bundle in bundles:
        if not (bundle / "manifest.json").is_file():
            raise InputError(f"{bundle} is no bundle; give the folder that `edgekit build` wrote")
    if len({bundle.resolve().name for bundle in bundles}) < len(bundles):
        raise InputError(
            "two bundles have the same folder name, and so would their results; run one at a time"
        )


def _as_process(options: argparse.Namespace, command: list[str]) -> int:
    commands = [command] if command else [["edgekit", "verify", str(b)] for b in options.bundles]
    pi = root()
    codes = [process.run(pi, one, options.timeout) for one in commands]
    return next((code for code in codes if code), 0)


def _in_machine(options: argparse.Namespace, command: list[str]) -> int:
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    with nullcontext(options.out) if options.out else tempfile.TemporaryDirectory() as folder:
        out = Path(folder).resolve()
        script = shlex.join(command) if command else _demo(options, out)
        bundles = tuple(bundle.resolve() for bundle in options.bundles)
        return machine.boot(root(), kernel(), machine.Run(script, bundles, out, options.timeout))


def _demo(options: argparse.Namespace, out: Path) -> str:
    """A script that runs the camera demo with each bundle and ends with the first failure."""
    lines = ["code=0"]
    for bundle in options.bundles:
        demo = ["python", "-m", "scripts.virtual_pi_parts.demo", str(bundle.resolve())]
        demo += [options.source, str(out / f"{bundle.resolve().name}.jsonl")]
        demo += ["--frames", str(options.frames)]
        lines.append(f"{shlex.join(demo)} || {{ now=$?; [ $code != 0 ] || code=$now; }}")
    return "\n".join([*lines, "exit $code"])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that QEMU is ended with it
    try:
        sys.exit(main())
    except EdgekitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
