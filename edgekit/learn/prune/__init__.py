"""Fewer weights, or fewer channels."""
