"""What happens around the training loop: the history of a run, the guard against NaN, the progress line."""
