"""Faces: sources, files, loading, and the doctor that examines them."""
