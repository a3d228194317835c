"""The whole machine: four Cortex-A72 cores, Debian's kernel, a vivid camera on /dev/video0.

The root is shared read-only. The archive that the kernel starts from holds what this run needs:
the first process, the kernel's modules, edgekit and the bundles, each at the path that it has here.
What the command writes into the folder `out` is there afterwards. There is no network.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgekit.errors import EdgekitError
from scripts.virtual_pi_parts.cpio import Archive
from scripts.virtual_pi_parts.kernel import Kernel
from scripts.virtual_pi_parts.place import REPOSITORY
from scripts.virtual_pi_parts.programs import need
from scripts.virtual_pi_parts.root import SITE, python_version

QEMU = ("qemu-system-aarch64", "qemu-system-arm")
"""The program, and the Debian package that brings it."""
TIMED_OUT = 124
"""Exit code of a run that took too long, as timeout(1) has it."""
PARTS = ("apps", "architectures", "edgekit", "scripts", "targets")
"""What of the repository is there."""
_MEMORY_MIB = 2048
_CORES = 4
# One device that captures, one input, a webcam, with the single-planar interface of USB cameras.
_VIVID = "n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0 multiplanar=1 vid_cap_nr=0"


@dataclass(frozen=True, slots=True)
class Run:
    """What to run in the machine."""

    command: str
    """A shell script."""
    bundles: tuple[Path, ...]
    """Folders that it finds where they are here."""
    out: Path
    """Where it may write; a folder of this machine, at the same path."""
    timeout_s: float


def boot(root: Path, kernel: Kernel, run: Run) -> int:
    """Run a command; its output goes to ours as it comes.

    Returns:
        Its exit code, or `TIMED_OUT`. The log of the boot is `out/boot.log`.

    Raises:
        MissingProgram: there is no QEMU.
        EdgekitError: the machine ended before the command did.
    """
    qemu = need(*QEMU)
    ended = run.out / ".exit-code"
    ended.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        initial = Path(scratch, "initial.cpio")
        with initial.open("wb") as file:
            _pack(file, root, kernel, run)
        code = _start(_command_line(qemu, root, kernel, initial, run.out), run.timeout_s)
    if code == TIMED_OUT:
        print(f"virtual_pi: ended after {run.timeout_s:g} s (--timeout)", file=sys.stderr)
        return code
    if not ended.exists():
        log = (run.out / "boot.log").read_text(errors="replace")
        raise EdgekitError(f"the emulated Pi went down, QEMU ended with {code}:\n{log[-2000:]}")
    code = int(ended.read_text())
    ended.unlink()
    return code


def _pack(file: IO[bytes], root: Path, kernel: Kernel, run: Run) -> None:
    archive = Archive(file)
    archive.device("dev/console", 5, 1)
    archive.file("init", Path(__file__).with_name("init").read_bytes(), 0o755)
    archive.file("bin/busybox", (root / "bin/busybox").read_bytes(), 0o755)
    python = f"/usr/bin/python{python_version(root)}"
    for name in ("python", "python3"):
        archive.file(f"bin/{name}", f'#!/bin/sh\nexec {python} "$@"\n'.encode(), 0o755)
    archive.file("bin/edgekit", EDGEKIT.format(python=python).encode(), 0o755)
    archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    archive.file("settings", f"VIVID='{_VIVID}'\nOUT={shlex.quote(str(run.out))}\n".encode())
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment("/pi").items()]
    lines += [f"cd {shlex.quote(str(Path.cwd()))}", run.command]
    archive.file("command", "\n".join(lines).encode())
    for module in kernel.modules:
        archive.file(f"modules/{module.name}", module.read_bytes())
    for folder in ("proc", "sys", "tmp", "root", str(Path.cwd())):
        archive.folder(folder)
    for part in PARTS:
        archive.tree(REPOSITORY / part, str(REPOSITORY / part))
    for bundle in run.bundles:
        archive.tree(bundle, str(bundle))
    archive.close()


EDGEKIT = '#!/bin/sh\nexec {python} -c "from edgekit.cli.main import main; main()" "$@"\n'


def environment(root: str) -> dict[str, str]:
    """What Python needs to know, wherever the root is."""
    return {
        "PYTHONPATH": f"{REPOSITORY}:{os.path.join(root, SITE)}",
        "PYTHONUNBUFFERED": "1",  # what the program says is seen when it says it
        "PYTHONDONTWRITEBYTECODE": "1",  # the root stays as it is
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "100",
    }


def _command_line(qemu: str, root: Path, kernel: Kernel, initial: Path, out: Path) -> list[str]:
    def share(tag: str, path: Path, *options: str) -> list[str]:
        text = str(path).replace(",", ",,")
        values = ["local", f"id={tag}", f"path={text}", "security_model=none", *options]
        device = f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"
        return ["-fsdev", ",".join(values), "-device", device]

    log = str(out / "boot.log").replace(",", ",,")
    command = [qemu, "-machine", "virt", "-cpu", "cortex-a72", "-smp", str(_CORES)]
    command += ["-accel", "tcg,thread=multi", "-m", str(_MEMORY_MIB), "-kernel", str(kernel.image)]
    command += ["-initrd", str(initial), "-append", "console=ttyAMA0 panic=-1 quiet"]
    command += ["-no-reboot", "-nic", "none", "-display", "none", "-monitor", "none"]
    command += ["-chardev", f"file,id=log,path={log}", "-serial", "chardev:log"]
    command += ["-device", "virtio-serial-pci"]
    command += share("pi", root, "readonly=on") + share("out", out)
    return command


def _start(command: list[str], timeout_s: float) -> int:
    """Start QEMU with a port each for stdout and stderr, and pass on what comes there."""
    passed, threads = [], []
    for name, target in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        ours, theirs = os.pipe()
        passed.append(theirs)
        command += ["-add-fd", f"fd={theirs},set={theirs}"]
        command += ["-chardev", f"file,id={name},path=/dev/fdset/{theirs},append=on"]
        command += ["-device", f"virtserialport,chardev={name},name={name}"]
        threads.append(threading.Thread(target=_pass_on, args=(ours, target.fileno())))
    for thread in threads:
        thread.start()
    process = subprocess.Popen(command, pass_fds=passed, stdin=subprocess.DEVNULL)
    for descriptor in passed:
        os.close(descriptor)
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        code = TIMED_OUT
    finally:
        process.kill()
        process.wait()
        for thread in threads:
            thread.join()
    return code


def _pass_on(descriptor: int, target: int) -> None:
    with open(descriptor, "rb", buffering=0) as source, open(target, "wb", closefd=False) as copy:
        while chunk := source.read(65536):
            copy.write(chunk)
            copy.flush()
