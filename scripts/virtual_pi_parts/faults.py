"""Break the camera in ways that the kernel's vivid driver offers, while the demo looks through it.

    scripts/virtual_pi BUNDLE --out OUT -- python -m scripts.virtual_pi_parts.faults BUNDLE OUT

runs on the emulated Pi, and ends with 0 where the demo outlived every fault, let the camera go on
SIGTERM, and gave up with exit code 69 on one that did not come back. `OUT/faults.json` says for
each fault the longest time without an answer after the camera was whole again. Of an emulated
processor that is no measure of a real one.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from scripts.virtual_pi_parts.demo import Demo

_DRIVER = Path("/sys/bus/platform/drivers/vivid")
_DEVICE = "vivid.0"
_PATIENCE_S = 90.0
"""For the demo to answer again; a few times what an emulated processor needs."""
_AFTERWARDS = 10
"""Answers after a fault that count as being well again; the first of them may be of before it."""
_GONE = 69


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one fault did."""

    fault: str
    survived: bool
    silent_s: float
    """The longest time without an answer, after the camera was whole again."""


def cameras() -> list[Path]:
    """The video devices that there are now."""
    return sorted(Path("/dev").glob("video*"))


def control(name: str, value: int = 1) -> None:
    """Set one of the driver's controls."""
    device = str(cameras()[0])
    subprocess.run(["v4l2-ctl", "--device", device, "--set-ctrl", f"{name}={value}"], check=True)


def damaged_frame() -> None:
    """One frame is marked as damaged (V4L2_BUF_FLAG_ERROR)."""
    control("inject_v4l2_buf_flag_error")


def dropped_frames() -> None:
    """Half of all frames are lost, for some seconds."""
    control("percentage_of_dropped_buffers", 50)
    time.sleep(3.0)
    control("percentage_of_dropped_buffers", 0)


def refused_buffer() -> None:
    """A buffer cannot be given back to the driver (VIDIOC_QBUF fails)."""
    control("inject_vidioc_qbuf_error")


def broken_stream() -> None:
    """The stream breaks and must be started anew (VIDIOC_DQBUF fails with EIO)."""
    control("inject_fatal_streaming_error")


def disconnected() -> None:
    """Every call fails with ENODEV until the device is closed."""
    control("disconnect")


def unplugged() -> None:
    """The device is away for three seconds and comes back under its number."""
    (_DRIVER / "unbind").write_text(_DEVICE)
    time.sleep(3.0)
    (_DRIVER / "bind").write_text(_DEVICE)


def another_number() -> None:
    """The device is unplugged and comes back under another number."""
    before = cameras()
    held = os.open(before[0], os.O_RDWR)  # while it is open, its number is not given again
    try:
        (_DRIVER / "unbind").write_text(_DEVICE)
        (_DRIVER / "bind").write_text(_DEVICE)
        assert cameras() != before, "the device came back under its old number"
    finally:
        os.close(held)


# The last four make the demo open the camera again, which it does five times a minute at most.
FAULTS: tuple[Callable[[], None], ...] = (
    damaged_frame,
    dropped_frames,
    refused_buffer,
    broken_stream,
    disconnected,
    unplugged,
    another_number,
)


def inject(demo: Demo, fault: Callable[[], None]) -> Outcome:
    """Make one fault, and wait for answers after it."""
    fault()
    before, whole_s = demo.look(), time.monotonic()
    survived = demo.wait_for(before + _AFTERWARDS, _PATIENCE_S)
    times = [whole_s, *demo.seen_s[before:]]
    silent_s = max((after - start for start, after in pairwise(times)), default=0.0)
    outcome = Outcome(fault.__name__, survived, round(silent_s, 3))
    print(f"{fault.__name__}: {'survived' if survived else 'NOT survived'}", file=sys.stderr)
    return outcome


def gone_for_good(demo: Demo) -> int:
    """Unplug the camera and leave it so; returns how the demo ends, or -1 where it does not."""
    (_DRIVER / "unbind").write_text(_DEVICE)
    try:
        return demo.process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        return -1


def streams() -> bool:
    """Whether the camera can be opened and gives frames, to a program that is not ours."""
    command = ["v4l2-ctl", "--device", str(cameras()[0]), "--stream-mmap", "--stream-count=3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stderr.count("<") >= 3


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--source", default="v4l2:///dev/video0")
    options = parser.parse_args()

    demo = Demo(options.bundle, options.source, options.out / "faults.jsonl")
    started = demo.wait_for(_AFTERWARDS, _PATIENCE_S)
    outcomes = []
    for fault in FAULTS if started else ():
        outcomes.append(inject(demo, fault))
        if not outcomes[-1].survived:
            break
    terminated, took_s = demo.end(signal.SIGTERM)
    released = streams()

    demo = Demo(options.bundle, f"v4l2://{cameras()[0]}", options.out / "gone.jsonl")
    gone = gone_for_good(demo) if demo.wait_for(_AFTERWARDS, _PATIENCE_S) else -1
    demo.end(signal.SIGKILL)

    found = {
        "faults": [asdict(outcome) for outcome in outcomes],
        "sigterm": {"exit_code": terminated, "took_s": round(took_s, 3), "released": released},
        "gone_for_good": {"exit_code": gone},
    }
    (options.out / "faults.json").write_text(json.dumps(found, indent=2) + "\n")
    good = len(outcomes) == len(FAULTS) and all(outcome.survived for outcome in outcomes)
    return 0 if good and terminated == 128 + signal.SIGTERM and released and gone == _GONE else 1


if __name__ == "__main__":
    sys.exit(main())
