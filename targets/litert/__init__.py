"""LiteRT (TensorFlow Lite): one `.tflite` file, run by XNNPACK on Arm and x86 CPUs."""
