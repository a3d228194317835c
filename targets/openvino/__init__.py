"""OpenVINO: one `.onnx` file, run by Intel's kernels on x86 and Arm CPUs."""
