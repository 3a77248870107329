"""Weights & Biases: one run, and the workspace of a project."""
