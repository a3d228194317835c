"""How hot this machine is and what that costs it, where Linux or the board's firmware tells.

- temperature: the kernel's thermal zones (`/sys/class/thermal`);
- throttling: the kernel's limits on processor frequency (cooling devices, same folder); on a
  Raspberry Pi the firmware's own word (`vcgencmd get_throttled`, documented bits) or the
  under-voltage alarm of the `rpi_volt` monitor; on a Jetson the over-current counters
  (`oc*_event_cnt`, NVIDIA's developer guide).
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SOC = re.compile(r"cpu|soc|pkg|tj|gpu", re.IGNORECASE)
_LIMITS = re.compile(r"^(thermal-)?(cpufreq|devfreq)|^Processor$", re.IGNORECASE)
_FIRMWARE = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
"""Bits 0 to 3: now; 16 higher: at some time since the start."""


@dataclass(frozen=True, slots=True)
class Heat:
    """What is known now."""

    celsius: float | None
    """Of the hottest zone of the chip; None where there is none."""
    zone: str
    now: tuple[str, ...]
    """What holds the machine back at this moment; empty: nothing that is known."""
    before: tuple[str, ...]
    """What did so since it was started, or since this run began."""


class Thermometer:
    """Reads the machine's files; each reading takes well under a millisecond, or a process."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Look which files there are; `root` is another folder than `/` in tests."""
        thermal = root / "sys/class/thermal"
        zones = [(z, _text(z / "type")) for z in sorted(thermal.glob("thermal_zone*"))]
        soc = [(zone, name) for zone, name in zones if _SOC.search(name)]
        self._zones = soc or zones
        coolers = sorted(thermal.glob("cooling_device*"))
        self._coolers = [c for c in coolers if _LIMITS.search(_text(c / "type"))]
        monitors = sorted((root / "sys/class/hwmon").glob("hwmon*"))
        volt = [m for m in monitors if _text(m / "name") == "rpi_volt"]
        self._alarms = [m / "in0_lcrit_alarm" for m in volt]
        self._events = [path for m in monitors for path in sorted(m.glob("oc*_event_cnt"))]
        self._events_before = self._count_events()
        self._events_last = self._events_before
        self._firmware = shutil.which("vcgencmd") if volt or _is_pi(root) else None

    def read(self) -> Heat | None:
        """What is known now; None where this machine tells nothing."""
        celsius, zone = self._hottest()
        now, before = self._held_back()
        tells = zone or self._coolers or self._alarms or self._events or self._firmware
        return Heat(celsius, zone, now, before) if tells else None

    def _hottest(self) -> tuple[float | None, str]:
        readings = [(_number(zone / "temp"), name) for zone, name in self._zones]
        # A zone that is switched off reads as nothing, as 0 K or as an absurd number.
        sane = [(t / 1000, name) for t, name in readings if t is not None and -40e3 < t < 150e3]
        return max(sane) if sane else (None, "")

    def _held_back(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        now, before = [], []
        flags = self._flags() if self._firmware else None
        if flags is not None:
            now += [name for bit, name in enumerate(_FIRMWARE) if flags >> bit & 1]
            before += [name for bit, name in enumerate(_FIRMWARE) if flags >> bit + 16 & 1]
        elif any(_number(path) for path in self._alarms):
            now.append(_FIRMWARE[0])
        if any((_number(cooler / "cur_state") or 0) > 0 for cooler in self._coolers):
            now.append("frequency limited by heat")
        events, last = self._count_events(), self._events_last
        self._events_last = events
        if events > last:
            now.append("over-current")
        if events > self._events_before:
            before.append("over-current")
        return tuple(now), tuple(before)

    def _flags(self) -> int | None:
        try:
            done = subprocess.run(
                [str(self._firmware), "get_throttled"],
                capture_output=True, text=True, timeout=1, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        match = re.fullmatch(r"throttled=(0x[0-9a-fA-F]+)\s*", done.stdout)
        return int(match[1], 16) if match else None

    def _count_events(self) -> int:
        return sum(_number(path) or 0 for path in self._events)


def _is_pi(root: Path) -> bool:
    return _text(root / "proc/device-tree/model").startswith("Raspberry Pi")


def _text(path: Path) -> str:
    """What a file of the kernel's says; empty if it cannot be read just now."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip().rstrip("\0")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None
