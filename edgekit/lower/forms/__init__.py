"""Exact rewrites of a program: one spelling, and the forms that integer kernels have."""
