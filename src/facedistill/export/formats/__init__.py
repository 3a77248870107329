"""Formats of model files, one file each."""
