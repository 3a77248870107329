"""From prepared faces to batches: augmentation, samplers and the DataModule."""
