"""An emulated Raspberry Pi: a Cortex-A72 under QEMU, Debian's arm64 kernel, the real wheels.

`debian.py` and `wheels.py` fetch what it is made of, `root.py` and `kernel.py` put that together
once into a cache, `machine.py` boots it whole and `process.py` runs one program of it.
"""
