"""ONNX: one `.onnx` file, run by ONNX Runtime (TensorRT, CUDA, CPU)."""
