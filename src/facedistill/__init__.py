"""Distil a large face-classification teacher into small students (arXiv 1709.02929)."""

__version__ = "0.1.0"
