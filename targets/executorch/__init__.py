"""ExecuTorch: one `.pte` file, run by XNNPACK on Arm and x86 CPUs, or by Core ML on Apple's."""
