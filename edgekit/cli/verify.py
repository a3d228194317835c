"""`edgekit verify`: is a bundle what was built, and does it answer here as it did there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgekit.device.golden import GoldenResult


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle folder.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Check every byte of a bundle, then replay its golden frames on this machine."""
    from contextlib import closing

    from edgekit.bundle import read
    from edgekit.cli.show import print_json
    from edgekit.device.golden import replay
    from edgekit.device.session import open_session
    from edgekit.errors import CheckFailed

    found = read(bundle)
    with closing(open_session(found)) as session:
        result, notes = replay(found, session), session.notes
    if json:
        print_json(
            {
                "bundle": bundle,
                "passed": result.passed,
                "failures": result.failures,
                "files": len(found.manifest.files),
                "bytes": found.size,
                "golden": result.cases,
                "tolerance": found.manifest.golden_tolerance,
                "notes": notes,
            }
        )
    else:
        print(f"{len(found.manifest.files)} files, {found.size} bytes: as they were built")
        _print_cases(result)
        print(*notes, "PASS" if result.passed else "FAIL", sep="\n")
    if not result.passed:
        raise CheckFailed(f"{bundle}: " + "; ".join(result.failures))


def _print_cases(result: "GoldenResult") -> None:
    from edgekit.cli.show import print_table

    rows = []
    for case in result.cases:
        failed = any(text.startswith(f"{case.frame}:") for text in result.failures)
        error, snr = f"{case.output.max_abs_error:.3g}", f"{case.output.snr_db:.1f}"
        rows.append((case.frame, str(case.input_error), error, snr, "FAIL" if failed else "PASS"))
    numbers = ("input LSB", "max error", "SNR/dB")
    print_table(("golden frame", *numbers, ""), rows, right=numbers)
