"""Core ML: one `.mlpackage` (mlprogram), run by the Neural Engine, the GPU or the CPU of a Mac.

Off macOS there is no Core ML: there the program is read back and executed by `interpreter.py`.
"""
