"""Weights & Biases: runs, and the workspace of a project."""
