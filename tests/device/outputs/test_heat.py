import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.device.outputs._heat import Heat, Thermometer

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a kernel's file below a root of our own, without vcgencmd."""
    monkeypatch.setattr(shutil, "which", lambda _: None)

    def make(path: str, text: object) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"{text}\n")

    return make


def zone(write: Write, number: int, kind: str, temperature: object) -> None:
    write(f"sys/class/thermal/thermal_zone{number}/type", kind)
    write(f"sys/class/thermal/thermal_zone{number}/temp", temperature)


def test_a_machine_that_tells_nothing(tmp_path: Path, write: Write) -> None:
    assert Thermometer(tmp_path).read() is None


def test_the_hottest_zone_of_the_chip(tmp_path: Path, write: Write) -> None:
    zone(write, 0, "CPU-therm", 51500)
    zone(write, 1, "GPU-therm", 53250)
    zone(write, 2, "PMIC-Die", 100000)  # a Jetson's says so always
    zone(write, 3, "cv-cpu", "")  # one that is switched off
    zone(write, 4, "soc-x", -273150)
    assert Thermometer(tmp_path).read() == Heat(53.25, "GPU-therm", (), ())


def test_any_zone_where_none_is_the_chips(tmp_path: Path, write: Write) -> None:
    zone(write, 0, "acpitz", 40000)
    assert Thermometer(tmp_path).read() == Heat(40.0, "acpitz", (), ())


def test_a_limit_on_the_processors_frequency(tmp_path: Path, write: Write) -> None:
    write("sys/class/thermal/cooling_device0/type", "pwm-fan")
    write("sys/class/thermal/cooling_device0/cur_state", 4)
    write("sys/class/thermal/cooling_device1/type", "cpufreq-cpu0")
    write("sys/class/thermal/cooling_device1/cur_state", 0)
    meter = Thermometer(tmp_path)
    assert meter.read() == Heat(None, "", (), ())
    write("sys/class/thermal/cooling_device1/cur_state", 3)
    assert meter.read() == Heat(None, "", ("frequency limited by heat",), ())


@pytest.mark.parametrize(
    ("said", "now", "before"),
    [
        ("throttled=0x0\n", (), ()),
        ("throttled=0x50000\n", (), ("under-voltage", "throttled")),
        ("throttled=0x50005\n", ("under-voltage", "throttled"), ("under-voltage", "throttled")),
        (
            "throttled=0xe000a\n",
            ("frequency capped", "soft temperature limit"),
            ("frequency capped", "throttled", "soft temperature limit"),
        ),
        ("VCHI initialization failed\n", (), ()),
    ],
)
def test_a_raspberry_pis_firmware(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, said: str,
    now: tuple[str, ...], before: tuple[str, ...],
) -> None:  # fmt: skip
    write("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    zone(write, 0, "cpu-thermal", 60000)
    program = tmp_path / "vcgencmd"
    program.write_text(f"#!/bin/sh\n[ $1 = get_throttled ] && printf '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(program))
    assert Thermometer(tmp_path).read() == Heat(60.0, "cpu-thermal", now, before)


def test_a_firmware_that_does_not_answer(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("sys/class/hwmon/hwmon1/name", "rpi_volt")
    write("sys/class/hwmon/hwmon1/in0_lcrit_alarm", 1)
    monkeypatch.setattr(shutil, "which", lambda _: "vcgencmd")

    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("vcgencmd", 1)

    monkeypatch.setattr(subprocess, "run", hang)
    assert Thermometer(tmp_path).read() == Heat(None, "", ("under-voltage",), ())


def test_a_jetsons_over_current_events(tmp_path: Path, write: Write) -> None:
    write("sys/class/hwmon/hwmon0/name", "soctherm_oc")
    write("sys/class/hwmon/hwmon0/oc1_event_cnt", 7)
    write("sys/class/hwmon/hwmon0/oc3_event_cnt", 0)
    meter = Thermometer(tmp_path)
    assert meter.read() == Heat(None, "", (), ())
    write("sys/class/hwmon/hwmon0/oc3_event_cnt", 2)
    assert meter.read() == Heat(None, "", ("over-current",), ("over-current",))
    assert meter.read() == Heat(None, "", (), ("over-current",))
