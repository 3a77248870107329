"""Scores of a network: what each task measures, pairs, and pictures of test faces."""
