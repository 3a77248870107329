"""From stored faces to batches: views, samplers, the DataModule."""
