"""Hydra plugins: found by Hydra itself, because it looks in the namespace package hydra_plugins only."""
