"""Faces: where they come from, how an item is viewed, and the DataModule."""
